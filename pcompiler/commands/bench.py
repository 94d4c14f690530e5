"""``pcompiler bench``: the benchmark module under another name."""

from __future__ import annotations

import argparse

from pcompiler.bench.__main__ import main


def run(args: argparse.Namespace) -> int:
    """Hand the arguments on."""
    return main(args.rest)
