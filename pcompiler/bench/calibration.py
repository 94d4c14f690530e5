"""How fast the machine is just now: a fixed piece of work, timed before and after each suite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch

from pcompiler.bench.harness import Samples
from pcompiler.device import pick
from pcompiler.errors import InputError

ROUNDS = 9  # of some 20 ms each
SIDE = 384  # of the matrix product
PRODUCTS, STEPS = 6, 120_000  # about as long as each other on one core
DRIFT_LIMIT = 0.15  # above it, a suite's times are of a machine that changed meanwhile

Clock = Literal["wall", "cpu"]


@dataclass(frozen=True)
class Calibration:
    """Seconds of the fixed work, round by round.

    Attributes:
        wall_s: of each round.
        cpu_s: of each round, all threads.
    """

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.wall_s or len(self.wall_s) != len(self.cpu_s):
            raise InputError("a calibration has one wall and one CPU time of each round.")
        if not all(math.isfinite(s) and s > 0 for s in (*self.wall_s, *self.cpu_s)):
            raise InputError("a calibration's seconds are finite and above 0.")

    def rounds(self, clock: Clock) -> tuple[float, ...]:
        """Seconds by this clock."""
        return self.wall_s if clock == "wall" else self.cpu_s

    def median(self, clock: Clock) -> float:
        """Median seconds by this clock."""
        return median(self.rounds(clock))

    def fastest(self, clock: Clock) -> float:
        """Seconds of the fastest round: of the machine itself, between bursts of other work."""
        return min(self.rounds(clock))


def calibrate() -> Calibration:
    """Time the fixed work on the host, on the threads in force; 0.2 seconds."""
    host, taken = pick("cpu", "float32"), Samples()
    a = torch.full((SIDE, SIDE), 1 / SIDE)  # whose product is itself
    for _ in range(ROUNDS + 1):
        taken.time(host, lambda: _work(a))
    return Calibration(tuple(taken.wall[1:]), tuple(taken.cpu[1:]))  # the first was warm-up


def drift(before: Calibration, after: Calibration) -> float:
    """By how much the machine got slower or faster, by the clock that shows it more; 0.15: 15 %."""
    clocks: tuple[Clock, Clock] = ("wall", "cpu")
    logs = [abs(math.log(after.median(clock) / before.median(clock))) for clock in clocks]
    return math.expm1(max(logs))


def _work(a: torch.Tensor) -> int:
    for _ in range(PRODUCTS):
        a = a @ a
    total = 0
    for i in range(STEPS):
        total += i & 3
    return total
