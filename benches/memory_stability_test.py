"""Hours of use in cycles: compile, attach, generate, detach, delete; and does memory stay?

python benches/memory_stability_test.py --cycles 200
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.threads import patient_threads

patient_threads()  # before anything imports torch

from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.stability import SETTINGS, WARM_UP, Grown, cycles
from pcompiler.compiler import Compiler
from pcompiler.config import Config, ModelConfig, ProbeConfig
from pcompiler.errors import InputError
from pcompiler.table import nbytes, render, seconds

CYCLES, QUICK_CYCLES = 100, 20


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--cycles", type=int, default=CYCLES, help=f"after {WARM_UP} to warm up (default {CYCLES})"
    )
    p.add_argument(
        "--leak",
        type=int,
        default=0,
        metavar="BYTES",
        help="keep so many of every cycle, to see that it is caught (default 0)",
    )
    p.add_argument("--model", default="smollm2", help="a name, folder or hub id (default smollm2)")
    p.add_argument("--quick", action="store_true", help=f"{QUICK_CYCLES} cycles")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default auto)")
    p.add_argument("--json", metavar="FILE", help="write all samples as JSON; - prints them last")
    return p  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cycles; exit code 1: something leaks."""
    return script.main("memory_stability_test", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Cycle, print, write."""
    script.check_outputs(args.json)
    if args.leak < 0:
        raise InputError(f"--leak {args.leak}: give 0 or more bytes.")
    count = QUICK_CYCLES if args.quick else args.cycles
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            model=ModelConfig(args.model, args.device),
            probes=ProbeConfig(self_study=1, answer_tokens=2),
            store=replace(SETTINGS, path=str(Path(folder) / "store")),
        )
        with Compiler(config=config) as compiler:
            machine = f"{hardware()}; {compiler.model.device}; {compiler.model.name}"
            began = time.perf_counter()
            grown = cycles(compiler, count, beside=_planted(args.leak))
            taken = time.perf_counter() - began
    leaks = [one.name for one in grown if one.leaks]
    verdict = f"leak: {', '.join(leaks)}" if leaks else "flat"
    print(f"{machine}; commit {commit() or 'unknown'}\n\n{_table(grown)}\n")
    print(f"{count} cycles after {WARM_UP} to warm up, in {seconds(taken)}: {verdict}")
    if args.json:
        data = {"schema": 1, "hardware": machine, "commit": commit(), "seconds": taken}
        data |= {"cycles": count, "leak_planted": args.leak, "leaks": leaks}
        text = json.dumps(data | {"measures": [asdict(one) for one in grown]})
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return int(bool(leaks))


def _planted(leak: int) -> Callable[[int], object] | None:
    kept: list[bytes] = []
    return (lambda _: kept.append(bytes(leak))) if leak else None


def _table(grown: Sequence[Grown]) -> str:
    columns = ("measure", "in the end", "growth a cycle", "99 % interval", "leak above", "leaks")
    return render(columns, [_row(one) for one in grown])


def _row(one: Grown) -> tuple[str, ...]:
    last = nbytes(one.values[-1]) if one.unit == "bytes" else f"{one.values[-1]:,.0f} blocks"
    slope = one.slope
    interval = f"{slope.low:,.0f} … {slope.high:,.0f}"
    verdict = "yes" if one.leaks else "no"
    return (
        one.name,
        last,
        f"{slope.value:,.0f} {one.unit}",
        interval,
        f"{one.floor:,.0f}",
        verdict,
    )


if __name__ == "__main__":
    sys.exit(main())
