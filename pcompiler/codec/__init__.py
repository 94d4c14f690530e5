"""Tensors and bytes, in and out of their stored form."""
