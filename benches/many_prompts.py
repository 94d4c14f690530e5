"""Prompts compiled side by side against one by one: prompts an hour, and the floor by arithmetic.

Both ways compile the same prompts, each into a new store, and take turns in one run.

    python benches/many_prompts.py --group 8 --prompts 8 --data FOLDER
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.threads import patient_threads

patient_threads()  # before anything imports torch

import torch

from pcompiler.bench.harness import commit, hardware
from pcompiler.compiler import Compiler
from pcompiler.device import Device
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel, ModelCard
from pcompiler.pipeline import Compiled
from pcompiler.table import nbytes, render, seconds

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LENGTH = (1_500, 6_000)  # characters of a prompt from --data
WARM_UP = 2  # prompts
PRODUCT = 4096  # size of the square matrix product that tells the peak


@dataclass(frozen=True)
class Lap:
    """All prompts once.

    Attributes:
        way: one by one, or side by side.
        wall_s: seconds.
        cpu_s: of this process.
        kl: mean over the prompts, nats a token.
        sizes: bytes of the artifacts' bodies.
        tokens: of the prompts.
        stages: mean seconds of probing and so on, as headers tell them.
    """

    way: str
    wall_s: float
    cpu_s: float
    kl: float
    sizes: list[int]
    tokens: list[int]
    stages: dict[str, float]


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--prompts", type=int, default=8, help="default 8")
    p.add_argument("--group", type=int, default=8, help="side by side (default 8)")
    p.add_argument("--rounds", type=int, default=2, help="after one to warm up (default 2)")
    p.add_argument("--target", default="hybrid", choices=("kv", "hybrid"), help="default hybrid")
    p.add_argument("--model", default="smollm2", help="default smollm2")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default auto)")
    p.add_argument("--data", metavar="FOLDER", type=Path, help="with prompts_cc0.csv")
    p.add_argument(
        "--characters",
        nargs=2,
        type=int,
        metavar=("LEAST", "MOST"),
        help=f"of a prompt from --data (default {LENGTH[0]} to {LENGTH[1]})",
    )
    p.add_argument("--quick", action="store_true", help="two prompts, a round, no warm-up")
    p.add_argument("--json", metavar="FILE", help="write the figures; - prints them last")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; exit code 1: a prompt failed."""
    return script.main("many_prompts", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    script.check_outputs(args.json)
    count, rounds = (2, 1) if args.quick else (args.prompts, args.rounds)
    if count < 1 or rounds < 1 or args.group < 1:
        raise InputError("--prompts, --group and --rounds are 1 or more.")
    if args.characters and args.data is None:
        raise InputError("--characters is of prompts from --data; give --data FOLDER too.")
    sources = prompts(count, args.data, args.characters or LENGTH)
    model = LanguageModel.load(args.model, args.device)
    ways: list[tuple[str, int]] = [("one by one", 1), (f"{args.group} side by side", args.group)]
    if not args.quick:
        for _, group in ways:
            _lap("warm-up", model, sources[:WARM_UP], args.target, group)
    peak, laps = 0.0, []
    for number in range(rounds):
        for way, group in ways if number % 2 == 0 else reversed(ways):
            peak = max(peak, peak_flops(model.device))
            laps.append(_lap(way, model, sources, args.target, group))
    machine = f"{hardware()}; {model.device}; {model.device.use_threads(None)} threads"
    print(f"{machine}; commit {commit() or 'unknown'}\n")
    tokens = statistics.mean(laps[0].tokens)
    needed = flops(model.card, tokens, patched=args.target == "hybrid")
    floor, by_cpu = needed / peak, model.device.is_host
    rows = [
        _row(way, [lap for lap in laps if lap.way == way], count, floor, by_cpu) for way, _ in ways
    ]
    columns = ("way", "a prompt", "CPU a prompt", "prompts an hour", "over the floor", "KL")
    print(render(columns, rows))
    print(
        f"\n{count} prompts of {tokens:.0f} tokens on average to {args.target}, {rounds} round(s); "
        f"an artifact takes {nbytes(statistics.mean(laps[0].sizes))}. Floor: "
        f"{needed / 1e12:.2f} TFLOP a prompt at the {peak / 1e12:.3g} TFLOP/s of a large matrix "
        f"product in this run: {seconds(floor)}{' of CPU time' if by_cpu else ''}."
    )
    if args.json:
        data = {"schema": 1, "hardware": machine, "commit": commit(), "peak_flops": peak}
        data |= {"flops": needed, "laps": [asdict(lap) for lap in laps]}
        text = json.dumps(data)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


def prompts(count: int, data: Path | None, characters: Sequence[int] = LENGTH) -> list[str]:
    """Different prompts: of real people, or variations of the support desk's.

    Raises:
        InputError: the folder has too few.
    """
    if data is None:
        desk = (EXAMPLES / "support_desk.md").read_text()
        return [f"{desk}\n\nThis is the desk of branch {i + 1}.\n" for i in range(count)]
    try:
        with (data / "prompts_cc0.csv").open(encoding="utf-8", newline="") as rows:
            texts = [row["prompt"] for row in csv.DictReader(rows)]
    except (OSError, KeyError) as e:
        raise InputError(f"--data {data}: it has no prompts_cc0.csv with prompts ({e}).") from e
    least, most = characters
    found = [text for text in dict.fromkeys(texts) if least <= len(text) <= most][:count]
    if len(found) < count:
        raise InputError(
            f"--data {data} has {len(found)} prompts of {least} to {most} characters, of {count} "
            "wanted; lower --prompts, or give other --characters."
        )
    return found


def _lap(way: str, model: LanguageModel, sources: list[str], target: str, group: int) -> Lap:
    with tempfile.TemporaryDirectory() as folder, Compiler(model, store=folder) as compiler:
        wall, cpu = time.perf_counter(), time.process_time()
        outcomes = list(compiler.compile_many(sources, target, group, factor=10.0))
        model.device.synchronize()
        took = time.perf_counter() - wall, time.process_time() - cpu
    done = [_compiled(outcome) for outcome in outcomes]
    stages = {
        stage: statistics.mean(d.header.timing[stage] for d in done)
        for stage in ("compile_s", "measure_s", "probing_s", "walk_s", "solving_s")
    }
    headers = [d.header for d in done]
    sizes, tokens = [h.body_bytes for h in headers], [h.context_tokens for h in headers]
    return Lap(way, *took, statistics.mean(d.fidelity.kl for d in done), sizes, tokens, stages)


def _compiled(outcome: Compiled | Exception) -> Compiled:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _row(way: str, laps: list[Lap], count: int, floor: float, by_cpu: bool) -> tuple[str, ...]:
    wall, cpu = (
        statistics.median(value) / count
        for value in ([lap.wall_s for lap in laps], [lap.cpu_s for lap in laps])
    )
    kl = f"{laps[0].kl:.4f}"
    over = (cpu if by_cpu else wall) / floor
    return way, seconds(wall), seconds(cpu), f"{3600 / wall:,.0f}", f"{over:.1f} ×", kl


def peak_flops(device: Device) -> float:
    """Operations a second of a large matrix product in the model's dtype, the best of a few.

    In bfloat16 on a processor that multiplies it, as fitting then does; measuring does not.
    On the host a second is one of CPU time, all threads counted: others may be busy beside us.
    """
    size = PRODUCT if not device.is_host else PRODUCT // 4
    dtype = torch.bfloat16 if device.multiplies_bf16 else device.dtype
    a = torch.randn(size, size).to(device.handle, dtype)
    best = min(_timed(lambda: a @ a, device) for _ in range(10))
    return 2 * size**3 / best


def _timed(action: Callable[[], object], device: Device) -> float:
    clock = time.process_time if device.is_host else time.perf_counter
    device.synchronize()
    start = clock()
    action()
    device.synchronize()
    return clock() - start


def flops(
    card: ModelCard, context: float, patched: bool = True, probes: int = 56, measured: int = 16
) -> float:
    """Operations that a fit cannot do without, at the default settings: an estimate from below.

    A token costs 2 operations a weight of the blocks and 4·d·n a layer for attention to n keys;
    a query and its answer are taken as 44 tokens. Once each: the prompt and the probes that the
    teacher reads or says, and both sides of the walk. A patch takes sums of d_ff² + d·d_ff a token
    and a Cholesky solution of d_ff³/3 + 2·d_ff²·d for each layer.
    """
    d, ff, layers = card.hidden, card.intermediate, card.layers
    width = card.head_dim * (2 * card.heads + 2 * card.kv_heads)
    weights = layers * (d * width + 3 * d * ff)
    fitting, held_out = probes * 44, measured * 44
    walked = 2 * fitting
    passes = context + 2 * (fitting + held_out) + walked + 2 * held_out
    attention = 4 * layers * card.heads * card.head_dim * context * (context / 2 + walked)
    solves = layers * (fitting * 2 * (ff * ff + d * ff) + ff**3 / 3 + 2 * ff * ff * d)
    said = (fitting + held_out) // 2 * 2 * d * card.vocabulary
    return 2 * weights * passes + attention + solves * patched + said


if __name__ == "__main__":
    sys.exit(main())
