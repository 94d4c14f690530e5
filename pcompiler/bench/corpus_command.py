"""The command ``corpus compile`` beside a loop that does the same without its machinery.

The traffic of the production simulation goes into a file of JSON lines. Every way reads it in a
process of its own and drafts it into an empty store; ways take turns. CPU time is of that process
and of those that it started, less what it takes for the first prompt alone: mostly imports.

What bounds it: the loop itself. What the command adds to a prompt that is found is some 10 µs of
Python: a row that may be a bad one, an entry, an outcome, its count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pcompiler.bench import ROOT, traffic
from pcompiler.bench.simulation import Plan, draw, simulate
from pcompiler.errors import UserError
from pcompiler.store.db import Store

LOOP, ENGINE = "a loop without it", "the simulation's engine"
ROUNDS = 3


@dataclass(frozen=True)
class Lap:
    """All prompts once, by one way.

    Attributes:
        way: which.
        wall_s: seconds a prompt.
        cpu_s: seconds a prompt, of all its processes.
    """

    way: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Beside:
    """A way beside the loop.

    Attributes:
        way: which.
        per_s: prompts a second of wall time, median.
        cpu_s: seconds a prompt, median.
        of_loop: its CPU time over the loop's, median of the rounds.
    """

    way: str
    per_s: float
    cpu_s: float
    of_loop: float


def compare(
    plan: Plan, folder: Path, data: Path | None = None, rounds: int = ROUNDS
) -> list[Beside]:
    """Run every way some times over; the command with one process, and with the plan's.

    Args:
        plan: what comes.
        folder: empty; it is not cleaned up.
        data: folder with real prompts; see ``traffic.texts``.
        rounds: of which medians are taken.

    Raises:
        InputError: see ``simulate``.
        UserError: a way failed, or did not store what the others did.
    """
    files = _files(plan, folder, data)
    laps: list[list[Lap]] = []
    for number in range(rounds):
        here = folder / str(number)
        here.mkdir()
        ways = list(_ways(plan.processes).items())
        turns = ways if number % 2 == 0 else ways[::-1]
        done = [_lap(way, command, files, here, plan) for way, command in turns]
        _check([here / lap.way for lap in done])
        result = simulate(replace(plan, processes=1), here / ENGINE, data)
        done.append(Lap(ENGINE, result.seconds / plan.prompts, result.cpu_s / plan.prompts))
        laps.append(done)
    return [_beside(way, laps) for way in (LOOP, ENGINE, *list(_ways(plan.processes))[1:])]


def _ways(processes: int) -> dict[str, list[str]]:
    """Commands by name; input and store come after them."""
    command = ["pcompiler", "corpus", "compile", "--target", "draft", "--json"]
    ways = {LOOP: ["pcompiler.bench.draft_loop"]}
    for number in sorted({1, processes}):
        ways[f"corpus compile, {number} process(es)"] = [*command, "--processes", str(number)]
    return ways


def _files(plan: Plan, folder: Path, data: Path | None) -> tuple[Path, Path]:
    """The traffic, and the first prompt of it alone."""
    made_of = traffic.texts(data)
    prompts = traffic.stream(made_of, draw(plan, made_of)[1])
    whole, first = folder / "all.jsonl", folder / "first.jsonl"
    with whole.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    with whole.open() as file:
        first.write_text(file.readline())
    return whole, first


def _lap(way: str, command: Sequence[str], files: tuple[Path, Path], here: Path, plan: Plan) -> Lap:
    whole, first = files
    begun = _taken(command, first, here / f"{way}, first")
    ended = _taken(command, whole, here / way)
    wall_s, cpu_s = (b - a for a, b in zip(begun, ended, strict=True))
    return Lap(way, wall_s / (plan.prompts - 1), cpu_s / (plan.prompts - 1))


def _taken(command: Sequence[str], given: Path, store: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a process and its own."""
    named = ["--store", str(store)] if "corpus" in command else [str(store)]
    words = [sys.executable, "-m", *command, str(given), *named]
    wall, cpu = time.perf_counter(), _children_cpu_s()
    done = subprocess.run(  # noqa: S603
        words, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise UserError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - wall, _children_cpu_s() - cpu


def _children_cpu_s() -> float:
    """Of processes that were waited for, and of those that they have waited for."""
    taken = os.times()
    return taken.children_user + taken.children_system


def _check(stores: Iterable[Path]) -> None:
    """Refuse figures of ways that have not done the same."""
    kept = [list(_ids(path)) for path in stores]
    if not kept[0] or any(ids != kept[0] for ids in kept):
        raise UserError(f"the ways have stored {', '.join(str(len(ids)) for ids in kept)} drafts.")


def _ids(path: Path) -> Iterator[str]:
    with Store(path, "read") as store:
        for draft in store.drafts.all():
            yield draft.id


def _beside(way: str, laps: list[list[Lap]]) -> Beside:
    taken = [{lap.way: lap for lap in done} for done in laps]
    return Beside(
        way,
        1 / statistics.median(by[way].wall_s for by in taken),
        statistics.median(by[way].cpu_s for by in taken),
        statistics.median(by[way].cpu_s / by[LOOP].cpu_s for by in taken),
    )
