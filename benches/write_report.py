"""Write a saved run as a Markdown page: figures beside the reference; what was missed, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.bench import ROOT, archive
from pcompiler.bench.markdown import page

REPORTS = ROOT / "benches" / "reports"


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", metavar="RUN", help="a name given to --save, or a file of --json")
    p.add_argument("--out", metavar="FILE", help="default: benches/reports/RUN.md; - prints it")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; exit codes are the command line's."""
    return script.main("write_report", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Read, write, say where; a page that is there is generated, and replaced."""
    source = archive.find(args.run)
    text = page(archive.read(source))
    if args.out == "-":
        print(text, end="")
        return 0
    out = Path(args.out) if args.out else REPORTS / f"{source.stem}.md"
    script.check_outputs(args.out)
    out.parent.mkdir(exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
