"""Two functions that do the same work, timed in turn, so that a busy machine slows both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from pcompiler.bench.harness import Repeat, spread


@dataclass(frozen=True)
class Speed:
    """How fast ours is, alone and beside another that did the same in the same run.

    Attributes:
        mb_per_cpu_s: 10^6 bytes a second of CPU time, all threads; median.
        mb_per_s: 10^6 bytes a second of wall time; median.
        other_mb_per_cpu_s: the other's.
        other_mb_per_s: the other's.
        share: the other's CPU time over ours, round by round; median. 0.9: ours has 90 % of its
            speed.
        wall_share: the same of wall time.
        spread: interquartile range of ``share``.
        shares: of each round.
        rates: ``mb_per_s`` of each round.
        cpu_rates: ``mb_per_cpu_s`` of each round.
    """

    mb_per_cpu_s: float
    mb_per_s: float
    other_mb_per_cpu_s: float
    other_mb_per_s: float
    share: float
    wall_share: float
    spread: float
    shares: tuple[float, ...]
    rates: tuple[float, ...]
    cpu_rates: tuple[float, ...]


@dataclass(frozen=True)
class Lap:
    """Wall and CPU seconds of one round, and bytes that were worked on."""

    wall_s: float
    cpu_s: float
    size_bytes: int


def race(
    ours: Callable[[], object],
    other: Callable[[], object],
    size: int,
    repeat: Repeat,
    lap_s: float,
) -> Speed:
    """Time both in turn; who begins changes with every round.

    Args:
        ours: works on ``size`` bytes.
        other: the same work, done by what ours is compared with.
        size: bytes of one call.
        repeat: how often each is timed; enough is when their share is known.
        lap_s: seconds of each round, about; short work is repeated.
    """
    other()  # warm-up
    repeats = max(1, round(lap_s / max(_lap(ours, size, 1).wall_s, 1e-6)))
    mine: list[Lap] = []
    theirs: list[Lap] = []
    shares: list[float] = []
    for turn in repeat.until_steady(shares):
        pair = ((ours, mine), (other, theirs))
        for function, laps in pair if turn % 2 else reversed(pair):
            laps.append(_lap(function, size, repeats))
        shares.append(theirs[-1].cpu_s / mine[-1].cpu_s)
    return speed(mine, theirs)


def sustained(function: Callable[[], object], size: int, total_s: float) -> float:
    """10^6 bytes a second of CPU time, over as many calls as fit in a time; at least one."""
    laps = [_lap(function, size, 1)]
    while sum(lap.wall_s for lap in laps) < total_s:
        laps.append(_lap(function, size, 1))
    return size * len(laps) / sum(lap.cpu_s for lap in laps) / 1e6


def speed(ours: list[Lap], others: list[Lap]) -> Speed:
    """What pairs of rounds come to."""
    shares = [o.cpu_s / m.cpu_s for m, o in zip(ours, others, strict=True)]
    walls = [o.wall_s / m.wall_s for m, o in zip(ours, others, strict=True)]
    rates, cpu_rates = _rates(ours)
    other_rates, other_cpu_rates = _rates(others)
    return Speed(
        median(cpu_rates),
        median(rates),
        median(other_cpu_rates),
        median(other_rates),
        median(shares),
        median(walls),
        spread(shares),
        tuple(shares),
        rates,
        cpu_rates,
    )


def _lap(function: Callable[[], object], size: int, repeats: int) -> Lap:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        function()
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return Lap(max(wall_s, 1e-9), max(cpu_s, 1e-9), size * repeats)


def _rates(laps: list[Lap]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """10^6 bytes a second of each round, by wall and by CPU time."""
    wall = tuple(lap.size_bytes / lap.wall_s / 1e6 for lap in laps)
    return wall, tuple(lap.size_bytes / lap.cpu_s / 1e6 for lap in laps)
