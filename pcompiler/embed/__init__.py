"""Texts as vectors: how near in meaning two of them are."""
