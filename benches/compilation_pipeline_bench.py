"""Where the time of a compile goes: stage by stage, by target and length of the prompt.

python benches/compilation_pipeline_bench.py --quick
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.threads import patient_threads

patient_threads()  # before anything imports torch

from pcompiler.bench import stages
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.stages import STAGES, Taken
from pcompiler.config import Config
from pcompiler.device import pick
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.store.db import Store
from pcompiler.table import render, seconds


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--target",
        action="append",
        choices=tuple(stages.SETTINGS),
        help="one of them, or more than one (default all)",
    )
    p.add_argument("--model", default="smollm2", help="a name, folder or hub id (default smollm2)")
    p.add_argument(
        "--quick",
        action="store_true",
        help="100 to 400 tokens once, what is fitted at 100 with few probes",
    )
    p.add_argument(
        "--cpu-time",
        action="store_true",
        help="stages in CPU seconds, which other work disturbs less; not an accelerator's",
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default auto)")
    p.add_argument("--json", metavar="FILE", help="write all figures as JSON; - prints them last")
    return p  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; exit codes are the command line's."""
    return script.main("compilation_pipeline_bench", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    script.check_outputs(args.json)
    targets = list(dict.fromkeys(args.target or stages.SETTINGS))
    runs, left_out = stages.plan(targets, args.quick)
    device = pick(args.device, "float32")
    model = LanguageModel.load(args.model, str(device.handle), "float32")
    longest = max(tokens for _, tokens in runs)
    if longest >= model.window:
        left_out.append(f"what is longer than the window of {model.window:,} tokens")
        runs = [(target, tokens) for target, tokens in runs if tokens < model.window]
    if not runs:
        raise InputError(f"the window of {model.name} is too short for any of the lengths.")
    machine = f"{hardware()}; {device}; {device.use_threads(None)} threads; {model.name}"
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store") as store:
        config = Config(probes=stages.QUICK_PROBES) if args.quick else Config(probes=stages.PROBES)
        rounds = 1 if args.quick else stages.ROUNDS
        read = time.process_time if args.cpu_time else time.perf_counter
        taken = list(stages.measure(model, store, runs, config, rounds, read))
    print(f"{machine}; commit {commit() or 'unknown'}; {config.probes.to_fit} fitting probes")
    measured = dict.fromkeys(one.target for one in taken)  # a quick run leaves one out
    by_target = {t: [one for one in taken if one.target == t] for t in measured}
    for target, ones in by_target.items():
        print(f"\n{target}\n{_table(ones)}")
    for what in left_out:
        print(f"\nleft out: {what}")
    if args.json:
        grows = {t: {s: stages.exponent(ones, s) for s in ("total", *STAGES)}
                 for t, ones in by_target.items()}  # fmt: skip
        data = {"schema": 1, "hardware": machine, "commit": commit(), "left_out": left_out}
        data |= {"fitting_probes": config.probes.to_fit, "cpu_time": args.cpu_time}
        text = json.dumps(data | {"compiles": [asdict(one) for one in taken], "exponents": grows})
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


def _table(ones: Sequence[Taken]) -> str:
    shown = [s for s in STAGES if any(one.seconds[s] > 0 for one in ones)]
    rows = [
        (s, *(_part(one.seconds[s], one.total_s) for one in ones), _power(ones, s)) for s in shown
    ]
    rows.append(("total", *(seconds(one.total_s) for one in ones), _power(ones, "total")))
    rows.append(("CPU", *(seconds(one.cpu_s) for one in ones), ""))
    rows.append(("wall", *(seconds(one.wall_s) for one in ones), ""))
    return render(("stage", *(f"{one.tokens:,} tokens" for one in ones), "grows as"), rows)


def _part(taken_s: float, total_s: float) -> str:
    return f"{seconds(taken_s)} {100 * taken_s / total_s:3.0f} %"


def _power(ones: Sequence[Taken], stage: str) -> str:
    found = stages.exponent(ones, stage)
    return "–" if found is None else f"n^{found:.2f}"


if __name__ == "__main__":
    sys.exit(main())
