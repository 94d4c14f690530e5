"""A million prompts as a service gets them, compiled without a language model and stored.

A compile of a new prompt parses, tidies, embeds, compresses and stores it; one of a prompt that
came before is finding it in the store by its content address. Both are told apart.

    python benches/production_simulation.py --data FOLDER --plot memory.png
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one prompt at a time has no use for it

from benches import script
from pcompiler.bench import plot, reference
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.latency_summary import Summary
from pcompiler.bench.simulation import Plan, Result, simulate
from pcompiler.errors import InputError
from pcompiler.table import nbytes, percent, render, seconds

QUICK = 20_000  # prompts


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--prompts", type=int, default=Plan.prompts, help="default 1,000,000")
    p.add_argument(
        "--distinct-factor",
        type=float,
        default=1.0,
        metavar="F",
        help="times as many different ones as the usual 1 in 20 (default 1)",
    )
    p.add_argument("--processes", type=int, default=1, help="that compile (default 1)")
    p.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    p.add_argument("--data", metavar="FOLDER", type=Path, help="with prompts_cc0.csv")
    p.add_argument("--quick", action="store_true", help=f"{QUICK:,} prompts")
    p.add_argument("--device", help="is not used: the static table runs on no accelerator")
    p.add_argument("--json", metavar="FILE", help="write the figures; - prints them last")
    p.add_argument("--plot", metavar="FILE.png", help="draw memory over time")
    return p  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; exit code 1: a prompt failed, or was not stored as it should be."""
    return script.main("production_simulation", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Simulate, print, write."""
    script.check_outputs(args.json, args.plot)
    if args.plot:
        plot.check_plot()
    prompts = QUICK if args.quick else args.prompts
    if prompts < 1 or args.seed < 0 or args.distinct_factor <= 0:
        raise InputError("--prompts is 1 or more, --seed 0 or more, --distinct-factor above 0.")
    plan = Plan(prompts, args.distinct_factor, args.processes, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = simulate(plan, Path(folder) / "store", args.data)
    machine = f"{hardware()}; {plan.processes} process(es)"
    print(f"{machine}; commit {commit() or 'unknown'}\n")
    print(_what(result), _latencies(result), _reached(result), _rest(result), sep="\n\n")
    if args.plot:
        plot.memory(result.memory, Path(args.plot))
    if args.json:
        data = {"schema": 1, "hardware": machine, "commit": commit(), "plan": asdict(plan)}
        text = json.dumps(data | asdict(result) | {"failed": result.failed})
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return int(result.failed > 0)


def _what(result: Result) -> str:
    r = result.redundancy
    return (
        f"{r.prompts:,} prompts of {result.bytes_in / r.prompts:.0f} bytes on average, "
        f"{r.distinct:,} different ones ({percent(r.distinct / r.prompts)}), drawn from "
        f"{r.from_ranks:,} by Zipf's law (exponent "
        f"{r.exponent:.2f}); the most popular 1 % of them are "
        f"{percent(r.top_share)} of all. Made of {result.texts}."
    )


def _latencies(result: Result) -> str:
    rows = [("all", result.every), ("found in the store", result.known), ("new", result.new)]
    columns = ("prompts", "share", "mean", "p50", "p99", "p99.9", "slowest")
    return render(columns, [_row(name, of, result.every.count) for name, of in rows if of])


def _row(name: str, of: Summary, total: int) -> tuple[str, ...]:
    times = map(seconds, (of.mean, of.p50, of.p99, of.p999, of.most))
    return (name, percent(of.count / total), *times)


def _reached(result: Result) -> str:
    rate, most = result.every.count / result.seconds, max(s.rss for s in result.memory)
    rows = [
        ("prompts a second", f"{rate:,.0f}", f"≥ {reference.PROMPTS_PER_S:,}",
         rate >= reference.PROMPTS_PER_S),
        ("mean", seconds(result.every.mean), f"< {seconds(reference.COMPILE_MEAN_S)}",
         result.every.mean < reference.COMPILE_MEAN_S),
        ("p99", seconds(result.every.p99), f"< {seconds(reference.COMPILE_P99_S)}",
         result.every.p99 < reference.COMPILE_P99_S),
        ("resident memory, most", nbytes(most), f"< {nbytes(reference.COMPILE_RSS_BYTES)}",
         most < reference.COMPILE_RSS_BYTES),
        ("failed", str(result.failed), "0", result.failed == 0),
    ]  # fmt: skip
    if result.again is not None:
        rows.insert(4, ("… would grow in as many prompts again by", percent(result.again),
                        "< 5 %", result.is_flat))  # fmt: skip
    return render(
        ("figure", "ours", "reference", "reached"),
        [(name, ours, wanted, "yes" if ok else "no") for name, ours, wanted, ok in rows],
    )


def _rest(result: Result) -> str:
    stages = ", ".join(f"{name} {seconds(s)}" for name, s in result.stages.items())
    failures = "".join(f"\n{count} × {why}" for why, count in result.failures.items())
    return (
        f"{seconds(result.seconds)} from the first prompt until the store was closed, "
        f"{seconds(result.cpu_s)} of CPU; before it {seconds(result.made_ready_s)} to make ready.\n"
        f"Of this process: {stages}.\n"
        f"{nbytes(result.bytes_in)} came in, {nbytes(result.distinct_bytes)} of it different; "
        f"{nbytes(result.stored_bytes)} were stored, vectors included, "
        f"{nbytes(result.compacted_bytes)} once merged.\n"
        f"{result.checked:,} stored prompts were read again and compared, all were counted: "
        f"{result.wrong} wrong.{failures}"
    )


if __name__ == "__main__":
    sys.exit(main())
