"""Write a saved run as a page: figures beside the reference; what was missed, and why.

Markdown, or with --html one self-contained file with charts, and the list of all such files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.bench import ROOT, archive, history
from pcompiler.bench.html.page import Report, html, index
from pcompiler.bench.markdown import page

REPORTS = ROOT / "benches" / "reports"


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benches/write_report.py v0.1 --html"
    )
    p.add_argument("run", metavar="RUN", help="a name given to --save, or a file of --json")
    p.add_argument("--html", action="store_true", help="with charts, and index.html beside it")
    p.add_argument(
        "--out", metavar="FILE", help="default: benches/reports/RUN.md or .html; - prints it"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; exit codes are the command line's."""
    return script.main("write_report", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Read, write, say where; a page that is there is generated, and replaced."""
    source = archive.find(args.run)
    script.check_outputs(args.out)
    measured, kept = archive.read(source), history.read()
    text = html(Report(measured, source.stem, kept)) if args.html else page(measured)
    if args.out == "-":
        print(text, end="")
        return 0
    out = Path(args.out) if args.out else REPORTS / f"{source.stem}.{'html' if args.html else 'md'}"
    _write(out, text)
    if args.html and not args.out:
        _write(REPORTS / "index.html", index(kept, REPORTS))
    return 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
