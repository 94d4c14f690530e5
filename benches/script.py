"""What the scripts share: arguments in, exit code out, and files that can be written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pcompiler.errors import InputError, PcompilerError

Run = Callable[[argparse.Namespace], int]


def main(name: str, parser: argparse.ArgumentParser, run: Run, argv: Sequence[str] | None) -> int:
    """Run a script; exit codes are the command line's."""
    args = parser.parse_args(argv)
    try:
        return run(args)
    except PcompilerError as e:
        print(f"{name}: {e}", file=sys.stderr)
        return e.exit_code


def check_outputs(*names: str | None) -> None:
    """Before anything slow runs. Raises InputError: a file in a folder that is not there."""
    for name in names:
        if name and name != "-" and not Path(name).absolute().parent.is_dir():
            raise InputError(f"{name}: its folder does not exist; make it first.")
