"""A million prompts as a service gets them, compiled without a language model and stored.

A compile of a new prompt parses, tidies, embeds, compresses and stores it; one of a prompt that
came before is finding it in the store by its content address. Both are told apart.

    python benches/production_simulation.py --data FOLDER --plot memory.png
    python benches/production_simulation.py --data FOLDER --command --processes 2
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
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one prompt at a time has no use for it

from benches import script
from pcompiler.bench import plot, reference
from pcompiler.bench.corpus_command import ROUNDS, Beside, compare
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.latency_summary import Summary
from pcompiler.bench.simulation import Plan, Result, simulate
from pcompiler.errors import InputError
from pcompiler.table import nbytes, percent, render, seconds

QUICK, COMMAND = 20_000, 50_000  # prompts


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--prompts", type=int, help=f"default {Plan.prompts:,}")
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
    p.add_argument(
        "--command",
        action="store_true",
        help="instead, 'corpus compile' of a file with them beside a loop without its machinery: "
        f"CPU time a prompt (default {COMMAND:,} prompts)",
    )
    p.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"of --command (default {ROUNDS}; quick: 1)"
    )
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
        if args.command:
            raise InputError("--plot draws the simulation's memory; leave it out with --command.")
        plot.check_plot()
    usual = COMMAND if args.command else Plan.prompts
    prompts = QUICK if args.quick else usual if args.prompts is None else args.prompts
    rounds = 1 if args.quick else args.rounds
    if rounds < 1 or prompts < 1 + args.command:
        raise InputError("--rounds is 1 or more; --prompts is 1 or more, with --command 2.")
    if args.seed < 0 or args.distinct_factor <= 0:
        raise InputError("--seed is 0 or more, --distinct-factor above 0.")
    plan = Plan(prompts, args.distinct_factor, args.processes, args.seed)
    machine = f"{hardware()}; {plan.processes} process(es)"
    with tempfile.TemporaryDirectory() as folder:
        if args.command:
            ways = compare(plan, Path(folder), args.data, rounds)
            _write(args, machine, plan, {"ways": [asdict(way) for way in ways]}, _ways(ways))
            return 0
        result = simulate(plan, Path(folder) / "store", args.data)
    told = (_what(result), _latencies(result), _reached(result), _rest(result))
    _write(args, machine, plan, asdict(result) | {"failed": result.failed}, *told)
    if args.plot:
        plot.memory(result.memory, Path(args.plot))
    return int(result.failed > 0)


def _write(
    args: argparse.Namespace, machine: str, plan: Plan, figures: dict[str, Any], *told: str
) -> None:
    print(f"{machine}; commit {commit() or 'unknown'}\n")
    print(*told, sep="\n\n")
    if args.json:
        data = {"schema": 1, "hardware": machine, "commit": commit(), "plan": asdict(plan)}
        text = json.dumps(data | figures)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")


def _ways(ways: Sequence[Beside]) -> str:
    rows = [(w.way, f"{w.per_s:,.0f}", seconds(w.cpu_s), f"{w.of_loop:.2f} ×") for w in ways]
    return render(("way", "prompts a second", "CPU a prompt", "of the loop's"), rows)


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
