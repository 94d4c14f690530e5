"""Statistics of every figure over all kept runs, a machine at a time, into benches/analysis."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.bench import ROOT, archive, history, trends
from pcompiler.errors import InputError

ANALYSIS = ROOT / "benches" / "analysis"


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benches/trend_analysis.py --json -"
    )
    p.add_argument("--runs", metavar="FOLDER", type=Path, default=archive.FOLDER)
    p.add_argument("--out", metavar="FOLDER", type=Path, default=ANALYSIS)
    p.add_argument("--json", metavar="FILE", help="the statistics here as well; - prints them")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Write both forms; exit codes are the command line's."""
    return script.main("trend_analysis", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Read all runs, write trends.json and trends.md."""
    if not args.runs.is_dir():
        raise InputError(f"--runs {args.runs}: it is not a folder; name one that holds runs.")
    script.check_outputs(args.json, str(args.out))
    kept = history.read(args.runs)
    text = json.dumps(trends.as_json(kept), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    args.out.mkdir(exist_ok=True)
    for name, content in (("trends.json", text), ("trends.md", trends.as_markdown(kept))):
        (args.out / name).write_text(content, encoding="utf-8")
        print(f"wrote {args.out / name}")
    if args.json:
        line = json.dumps(trends.as_json(kept), ensure_ascii=False)
        print(line) if args.json == "-" else Path(args.json).write_text(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
