"""Benchmarks of pcompiler itself, beside the reference figures and a baseline of the same run."""
