"""Timing: rounds until they agree, median and spread, wall beside CPU seconds, in one process."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pcompiler.bench import ROOT
from pcompiler.device import Device

Histogram = tuple[tuple[float, int], ...]
BUCKETS = 20  # of a histogram, in a decade

STEADY = 0.02  # of the median, by which it may be off when rounds are enough
MOST_ROUNDS = 100
MEDIAN_ERROR = 0.93  # of a normal distribution: 1.2533 σ/√n, and its interquartile range is 1.349 σ


@dataclass(frozen=True)
class Repeat:
    """How often something is timed: until its median is known, or the time for it is spent.

    Attributes:
        rounds: at least.
        budget_s: seconds after which no further round begins; 0: no more than ``rounds``.
    """

    rounds: int
    budget_s: float = 0.0

    def until_steady(self, *watched: list[float]) -> Iterator[int]:
        """Number the rounds.

        Args:
            watched: lists that each round adds a value to; when the medians of all are known to
                within 2 %, that is enough.
        """
        start = time.perf_counter()
        for number in range(max(self.rounds, MOST_ROUNDS)):
            spent = time.perf_counter() - start >= self.budget_s
            if number >= self.rounds and (spent or all(map(_is_steady, watched))):
                return
            yield number


@dataclass(frozen=True)
class Setting:
    """What a suite runs on.

    Attributes:
        device: where.
        rounds: timed repetitions of each figure, at least.
        quick: fewer probes and rounds.
        data: folder with texts that not every machine has, if there is one.
        budget_s: seconds for further rounds of a figure that they disagree about; 0: none.
    """

    device: Device
    rounds: int
    quick: bool
    data: Path | None = None
    budget_s: float = 0.0

    @property
    def repeat(self) -> Repeat:
        """How often each figure is timed."""
        return Repeat(self.rounds, self.budget_s)


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        suite: which suite it is of.
        name: what it is.
        value: the median.
        unit: of value, reference, baseline and spread.
        better: which direction is good.
        reference: the published figure, if there is one.
        goal: a target that goes further than that, or of what has no published figure.
        baseline: what it is compared with, measured in the same run, if there is one.
        spread: interquartile range over the rounds.
        cpu_s: CPU seconds of one round, all threads.
        note: why the reference is out of reach, for the table.
        samples: rounds that value is the median of, or close to it, in its unit; where there are
            any, two runs are compared by them.
        tolerance: by which two runs of the same code differ, whatever the rounds of one say: 0.5
            is 50 %; none: what is usual for the unit.
        by: what it was reached by, where the best of several ways is taken.
        histogram: of single calls that the value is a percentile of: the lower end of each bucket
            that holds any (20 to a decade, in the figure's unit), and how many it holds.
        baseline_histogram: the same of the baseline.
    """

    suite: str
    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"]
    reference: float | None = None
    baseline: float | None = None
    spread: float | None = None
    cpu_s: float | None = None
    note: str | None = None
    samples: tuple[float, ...] = ()
    tolerance: float | None = None
    goal: float | None = None
    by: str | None = None
    histogram: Histogram = ()
    baseline_histogram: Histogram = ()


@dataclass
class Samples:
    """Wall and CPU seconds of repeated runs of one thing."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self, device: Device, function: Callable[[], object]) -> None:
        """Run once, timed; the device's queue is drained before and after."""
        device.synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        device.synchronize()
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)

    @property
    def median(self) -> float:
        """Median wall seconds."""
        return statistics.median(self.wall)

    @property
    def spread(self) -> float:
        """Interquartile range of the wall seconds."""
        return spread(self.wall)

    @property
    def cpu_median(self) -> float:
        """Median CPU seconds."""
        return statistics.median(self.cpu)


def spread(values: list[float]) -> float:
    """Interquartile range; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def _is_steady(values: list[float]) -> bool:
    off = MEDIAN_ERROR * spread(values) / math.sqrt(len(values))
    return off <= STEADY * statistics.median(values)


def hardware() -> str:
    """The machine in words: processor, cores, memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The checkout's commit, with a mark when the tree differs from it; none in a wheel."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
