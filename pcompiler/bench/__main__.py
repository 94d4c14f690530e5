"""``python -m pcompiler.bench``: run suites on a device, print a table, write JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from pcompiler.bench import ROOT
from pcompiler.bench.suites import SUITES
from pcompiler.errors import InputError, PcompilerError
from pcompiler.threads import patient_threads

EXAMPLE = "example:\n  python -m pcompiler.bench --device cpu --suite compilation --json out.json"


def parser() -> argparse.ArgumentParser:
    """The benchmark's arguments."""
    p = argparse.ArgumentParser(
        prog="python -m pcompiler.bench",
        description="Measure pcompiler beside the reference figures and a baseline.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--suite", action="append", choices=SUITES, help="default: all; may be repeated")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default auto)")
    p.add_argument("--threads", type=int, help="CPU threads (default: one for each core)")
    p.add_argument("--rounds", type=int, default=5, help="timed repetitions (default 5)")
    p.add_argument("--quick", action="store_true", help="fewer rounds, probes and contexts")
    p.add_argument("--data", metavar="FOLDER", type=Path, help="more texts: prompts_cc0.csv")
    p.add_argument("--json", metavar="FILE", help="write the figures as JSON; - prints them last")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suites; exit codes are the command line's."""
    args = parser().parse_args(argv)
    patient_threads()
    try:
        return _run(args)
    except PcompilerError as e:
        print(f"pcompiler.bench: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print("pcompiler.bench: interrupted.", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    _check(args)
    from pcompiler.bench.harness import Figure, Setting, commit, hardware
    from pcompiler.bench.report import as_json, as_table
    from pcompiler.bench.suites import get
    from pcompiler.device import pick

    device = pick(args.device)
    threads = device.use_threads(args.threads)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    machine = f"{hardware()}; {device}; {threads} threads"
    print(f"{machine}; commit {commit() or 'unknown'}\n")
    setting = Setting(device, 3 if args.quick else args.rounds, args.quick, args.data)
    figures: list[Figure] = []
    for name in args.suite or SUITES:
        figures += get(name)(setting)
    print(as_table(figures))
    if args.json:
        text = json.dumps(as_json(figures, device, machine, started), ensure_ascii=False)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.rounds < 1 or (args.threads is not None and args.threads < 1):
        raise InputError("--rounds and --threads must be 1 or more.")
    if args.json and args.json != "-" and not Path(args.json).absolute().parent.is_dir():
        raise InputError(f"--json {args.json}: its folder does not exist; make it first.")
    if args.data and not args.data.is_dir():
        raise InputError(f"--data {args.data}: it is not a folder; name one that is.")
    if not (ROOT / "examples" / "support_desk.md").is_file():
        raise InputError("the benchmarks need examples/, which only a source checkout has.")


if __name__ == "__main__":
    sys.exit(main())
