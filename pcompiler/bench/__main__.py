"""``python -m pcompiler.bench``: run suites on a device, print a table, write JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcompiler.bench.suites import SUITES
from pcompiler.errors import InputError, PcompilerError
from pcompiler.threads import patient_threads

if TYPE_CHECKING:
    from pcompiler.bench.runs import Run

EXAMPLE = """examples:
  python -m pcompiler.bench compilation --device cpu --json out.json
  python -m pcompiler.bench storage_performance --quick --save before
  python -m pcompiler.bench storage_performance --quick --compare before
  python -m pcompiler.bench --profile --quick"""


def parser() -> argparse.ArgumentParser:
    """The benchmark's arguments."""
    p = argparse.ArgumentParser(
        prog="python -m pcompiler.bench",
        description="Measure pcompiler beside the reference figures and a baseline.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all if none"
    )
    p.add_argument("--suite", action="append", choices=SUITES, help="the same; may be repeated")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default auto)")
    p.add_argument("--threads", type=int, help="CPU threads (default: one for each core)")
    more = "timed repetitions (default: 5, with --quick 3, and more where they disagree)"
    p.add_argument("--rounds", type=int, help=more)
    p.add_argument("--quick", action="store_true", help="fewer rounds, probes and contexts")
    p.add_argument(
        "--profile",
        action="store_true",
        help="run torch.profiler over a workload of its own (the example prompt compiled to kv, "
        "hybrid and text; attach, generate) after the suites named; none is timed if none is "
        "named. Traces and sums go to a new folder in profiles/; see profiles/README.md",
    )
    p.add_argument("--data", metavar="FOLDER", type=Path, help="more texts: prompts_cc0.csv")
    p.add_argument("--json", metavar="FILE", help="write the run as JSON; - prints it last")
    p.add_argument("--save", metavar="NAME", help="keep the run as benches/results/runs/NAME.json")
    p.add_argument("--force", action="store_true", help="let --save overwrite a run")
    p.add_argument(
        "--compare", metavar="NAME", help="a saved run or a file of one; exit 1 on a regression"
    )
    p.add_argument("--markdown", metavar="FILE", type=Path, help="what --compare finds, for a page")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suites; exit codes are the command line's, and 1 is a regression."""
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
    _check_outputs(args)
    if args.profile and not (args.suites or args.suite):
        _write_json(args.json, {"profile": _profile(args)})
        return 0
    from pcompiler.bench import archive, runs
    from pcompiler.bench.report import alerts, as_json, as_table, noise

    kept = archive.place(args.save, args.force) if args.save else None
    before = archive.read(archive.find(args.compare)) if args.compare else None
    measure = partial(
        runs.run, device=args.device, quick=args.quick, threads=args.threads, rounds=args.rounds,
        data=args.data,
    )  # fmt: skip
    done = measure(*args.suites, *(args.suite or ()))
    print(f"{done.hardware}; commit {done.commit or 'unknown'}\n")
    print(as_table(done.figures) + noise(done) + alerts(done))
    if kept:
        archive.write(done, kept)
    regressed = before is not None and _compare(before, done, measure, args.markdown)
    _write_json(args.json, as_json(done) | ({"profile": _profile(args)} if args.profile else {}))
    return int(regressed)


def _profile(args: argparse.Namespace) -> dict[str, Any]:
    """Make a profile and print what it comes to."""
    from pcompiler.bench.profiles import record

    made = record.make(args.device, args.quick, args.threads)
    print(made.as_table())
    return made.as_json()


def _write_json(to: str | None, found: dict[str, Any]) -> None:
    if to:
        text = json.dumps(found, ensure_ascii=False, allow_nan=False)
        print(text) if to == "-" else Path(to).write_text(text + "\n", encoding="utf-8")


def _check_outputs(args: argparse.Namespace) -> None:
    for option, name in (("--json", args.json), ("--markdown", args.markdown)):
        if name and name != "-" and not Path(name).absolute().parent.is_dir():
            raise InputError(f"{option} {name}: its folder does not exist; make it first.")
    if args.profile and (args.save or args.compare) and not (args.suites or args.suite):
        raise InputError("--save and --compare are of suites; name one beside --profile.")
    if args.markdown and not args.compare:
        raise InputError("--markdown is of a comparison; add --compare NAME.")


def _compare(before: Run, done: Run, measure: Callable[..., Run], markdown: Path | None) -> bool:
    """Print how the run stands beside an older one; whether it regressed."""
    from pcompiler.bench.compare import as_markdown, as_table, compare, confirm

    found = confirm([before], compare([before, done]), lambda suites: measure(*suites))
    print(f"\n{as_table(found)}")
    if markdown:
        markdown.write_text(as_markdown(found), encoding="utf-8")
    return bool(found.regressions)


if __name__ == "__main__":
    sys.exit(main())
