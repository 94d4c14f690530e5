"""What a context does to the weights: the exact update of each token, and the ridge problems."""
