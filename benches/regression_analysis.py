"""Judge a run by one or more older ones, figure by figure; exit 1 when something got worse."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.bench import archive
from pcompiler.bench.compare import as_json, as_markdown, as_table, compare


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="two or more, oldest first: files of python -m pcompiler.bench --json, or names given "
        "to --save; the last is judged by all before it",
    )
    p.add_argument("--json", metavar="FILE", help="write the comparison as JSON; - prints it last")
    p.add_argument("--markdown", metavar="FILE", help="write it as a table for a page")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 0: nothing got worse, 1: something did, 2: the runs cannot be compared."""
    return script.main("regression_analysis", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Read, compare, print, write."""
    script.check_outputs(args.json, args.markdown)
    found = compare([archive.read(archive.find(name)) for name in args.runs])
    print(as_table(found))
    if args.markdown:
        Path(args.markdown).write_text(as_markdown(found), encoding="utf-8")
    if args.json:
        text = json.dumps(as_json(found), ensure_ascii=False, allow_nan=False)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 1 if found.regressions else 0


if __name__ == "__main__":
    sys.exit(main())
