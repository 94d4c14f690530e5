"""Other people's compressors, each run in an environment of its own."""
