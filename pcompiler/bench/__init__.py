"""Benchmarks of pcompiler itself, beside the reference figures and a baseline of the same run."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout, where there is one
