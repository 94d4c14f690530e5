"""A run: suites measured one after the other, with what they were measured on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pcompiler import __version__
from pcompiler.bench import ROOT, memory
from pcompiler.bench.calibration import DRIFT_LIMIT, Calibration, calibrate, drift
from pcompiler.bench.harness import Figure, Setting, commit, hardware
from pcompiler.bench.memory import Peak
from pcompiler.bench.suites import SUITES, get
from pcompiler.device import Device, pick
from pcompiler.errors import InputError

SCHEMA = 3  # of the JSON form
ROUNDS, QUICK_ROUNDS = 5, 3
BUDGET_S, QUICK_BUDGET_S = 8.0, 1.0  # for a figure whose rounds disagree

Suite = Callable[[Setting], list[Figure]]


@dataclass(frozen=True)
class Part:
    """One suite of a run.

    Attributes:
        suite: its name.
        seconds: wall time it took, calibration apart.
        before: the machine's speed just before it.
        after: the same, just after.
        peak: the most memory meanwhile; none: of a run that did not watch it.
    """

    suite: str
    seconds: float
    before: Calibration
    after: Calibration
    peak: Peak | None = None

    @property
    def drift(self) -> float:
        """By how much the machine's speed changed meanwhile; 0.15: 15 %."""
        return drift(self.before, self.after)

    @property
    def drifted(self) -> bool:
        """Whether that is too much to take its times at their word."""
        return self.drift > DRIFT_LIMIT


@dataclass(frozen=True)
class Run:
    """What was measured, and on what.

    Attributes:
        figures: of all suites, in their order.
        parts: the suites, each with the machine's calibration before and after.
        hardware: the machine, device and threads in words.
        device: as torch names it.
        commit: of the checkout; none in a wheel.
        started: ISO 8601, UTC.
        seconds: wall time of all suites, calibration included.
        quick: whether fewer rounds, records and probes were measured.
        threads: CPU threads of torch.
        version: of pcompiler.
        schema: of its JSON form.

    Raises:
        InputError: a figure is not a finite number, or belongs to no part.
    """

    figures: tuple[Figure, ...]
    parts: tuple[Part, ...]
    hardware: str
    device: str
    commit: str | None
    started: str
    seconds: float
    quick: bool
    threads: int
    version: str = __version__
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        suites = {part.suite for part in self.parts}
        for figure in self.figures:
            _check_finite(figure)
            if figure.suite not in suites:
                raise InputError(
                    f"figure {figure.name!r} is of {figure.suite!r}, which has not run."
                )

    def part(self, suite: str) -> Part:
        """The part of this suite, which the run has."""
        return next(part for part in self.parts if part.suite == suite)


def run(
    *suites: str,
    device: str = "auto",
    quick: bool = False,
    threads: int | None = None,
    rounds: int | None = None,
    data: Path | None = None,
) -> Run:
    """Measure suites.

    Args:
        suites: their names, each measured once; none: all.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        quick: fewer rounds, records, probes and contexts.
        threads: CPU threads of torch meanwhile; none: as many as it has.
        rounds: timed repetitions; none: 5, or 3 when quick, and more where they disagree.
        data: folder with more texts.

    Raises:
        ConfigError: a suite is not known.
        DeviceError: the device is not here.
        InputError: a count below 1, no such folder, a figure that is not finite, or no checkout.
    """
    _check(threads, rounds, data)
    functions = {name: get(name) for name in suites or SUITES}
    chosen = pick(device)
    usual = chosen.use_threads(None)
    chosen.use_threads(threads)
    try:
        return measure(functions, _setting(chosen, quick, rounds, data))
    finally:
        chosen.use_threads(usual)


def measure(suites: Mapping[str, Suite], setting: Setting) -> Run:
    """The same of functions that return figures, each of the suite that it is named."""
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    figures: list[Figure] = []
    parts: list[Part] = []
    for name, suite in suites.items():
        before, start = calibrate(), time.perf_counter()
        memory.forget(setting.device)
        figures += suite(setting)
        seconds = time.perf_counter() - start
        peak = memory.peak(setting.device)
        parts.append(Part(name, seconds, before, calibrate(), peak))
    threads = setting.device.use_threads(None)
    return Run(
        figures=tuple(figures),
        parts=tuple(parts),
        hardware=f"{hardware()}; {setting.device}; {threads} threads",
        device=str(setting.device.handle),
        commit=commit(),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        quick=setting.quick,
        threads=threads,
    )


def _setting(device: Device, quick: bool, rounds: int | None, data: Path | None) -> Setting:
    if rounds:
        return Setting(device, rounds, quick, data)
    least, budget_s = (QUICK_ROUNDS, QUICK_BUDGET_S) if quick else (ROUNDS, BUDGET_S)
    return Setting(device, least, quick, data, budget_s)


def labels(figures: Sequence[Figure]) -> dict[str, Figure]:
    """Figures by a name that no other has: "… KL" goes on from the figure it follows."""
    named: dict[str, Figure] = {}
    head = ""
    for figure in figures:
        name = f"{figure.suite}: {figure.name}"
        if figure.name.startswith("…"):
            name = f"{head} {figure.name}"
        else:
            head = name
        again = sum(1 for known in named if known == name or known.startswith(f"{name} #"))
        named[f"{name} #{again + 1}" if again else name] = figure
    return named


def _check(threads: int | None, rounds: int | None, data: Path | None) -> None:
    for name, count in (("threads", threads), ("rounds", rounds)):
        if count is not None and count < 1:
            raise InputError(f"{name} {count}: it must be 1 or more.")
    if data and not data.is_dir():
        raise InputError(f"{data}: it is not a folder with data; name one that is.")
    if not (ROOT / "examples" / "support_desk.md").is_file():
        raise InputError("the benchmarks need examples/, which only a source checkout has.")


def _check_finite(figure: Figure) -> None:
    numbers = (figure.value, figure.reference, figure.goal, figure.baseline, figure.spread)
    ends = [low for low, _ in (*figure.histogram, *figure.baseline_histogram)]
    for number in (*numbers, figure.cpu_s, figure.tolerance, *figure.samples, *ends):
        if number is not None and not math.isfinite(number):
            raise InputError(
                f"{figure.suite}: {figure.name}: {number} is not a finite number; "
                "nothing can be compared with it."
            )
