"""What a figure might as well have been: seeded draws from its rounds and the machine's speed.

A figure with rounds is the median of as many drawn from them; one without is drawn from its
spread. Runs of the same code differ by more than rounds of one run do, so a tolerance by unit comes
on top. A time is divided by that of the fixed work's fastest round, of those before or after its
suite: where the machine drifted, its draws lie further apart. The fastest, because a median of a
fifth of a second has bursts of other work in it that the suite beside it has not.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pcompiler.bench.calibration import Clock
from pcompiler.bench.harness import Figure
from pcompiler.bench.runs import Part

DRAWS = 4_000
SEED = 0
FEWEST = 3  # rounds that say something of how they spread
TIME_TOLERANCE = 0.25  # by which times without rounds differ from run to run, 95 of 100 times
RERUN_TOLERANCE = 0.08  # the same of times with rounds, beside how these spread within a run
TOLERANCE = 0.02  # the same of bytes, shares, KL: they hardly do
IQR_SIGMAS = 1.349  # interquartile range of a normal distribution

Draws = npt.NDArray[np.float64]


def clock(unit: str) -> Clock | None:
    """Which of the fixed work's times a figure in this unit goes with; none: no time is in it."""
    if "cpu" in unit.lower():
        return "cpu"
    return "wall" if unit == "s" or unit.endswith("/s") else None


def power(unit: str) -> int:
    """1: a figure in this unit grows on a slower machine; −1: it falls; 0: it does neither."""
    if clock(unit) is None:
        return 0
    return -1 if "/" in unit else 1


def machine(part: Part, unit: str) -> float:
    """What a figure in this unit is divided by: the fixed work's seconds, or their inverse."""
    by = clock(unit)
    if by is None:
        return 1.0
    middle = math.sqrt(part.before.fastest(by) * part.after.fastest(by))
    return middle ** power(unit)


def draws(label: str, sides: Sequence[tuple[Figure, Part]], scaled: bool) -> Draws:
    """(DRAWS,): of one figure in one or more runs, a run drawn each time.

    Args:
        label: the figure's; the same one gives the same draws.
        sides: the figure in each run, and its suite's part of it.
        scaled: whether times are divided by the machine's.
    """
    rng = np.random.default_rng([SEED, zlib.crc32(label.encode())])
    each = [_draws(figure, part if scaled else None, rng) for figure, part in sides]
    return np.choose(rng.integers(0, len(each), DRAWS), each) if len(each) > 1 else each[0]


def _draws(figure: Figure, part: Part | None, rng: np.random.Generator) -> Draws:
    values = _of_rounds(figure, rng)
    return values if part is None else values / _of_machine(part, figure.unit, rng)


def _of_rounds(figure: Figure, rng: np.random.Generator) -> Draws:
    known = True
    if len(figure.samples) >= FEWEST:
        values = np.median(_resampled(figure.samples, rng), axis=1)
    elif figure.spread:
        values = figure.value + rng.normal(0, figure.spread / IQR_SIGMAS, DRAWS)
    else:
        values, known = np.full(DRAWS, figure.value), False
    tolerance = figure.tolerance or _tolerance(figure.unit, known)
    # Two such draws differ by less than the tolerance 95 of 100 times.
    return values * rng.lognormal(0, math.log1p(tolerance) / 1.96 / math.sqrt(2), DRAWS)


def _tolerance(unit: str, known: bool) -> float:
    """By which two runs of the same code differ; beside their rounds, where these are known."""
    if clock(unit) is None and unit != "×":
        return TOLERANCE
    return RERUN_TOLERANCE if known else TIME_TOLERANCE


def _of_machine(part: Part, unit: str, rng: np.random.Generator) -> Draws | float:
    by = clock(unit)
    if by is None:
        return 1.0
    before, after = (_resampled(c.rounds(by), rng).min(axis=1) for c in (part.before, part.after))
    speed: Draws = np.where(rng.random(DRAWS) < 0.5, before, after)
    return speed if power(unit) > 0 else 1 / speed


def _resampled(values: Sequence[float], rng: np.random.Generator) -> Draws:
    """(DRAWS, n): as many rounds as there are, drawn from them with replacement."""
    rounds = np.asarray(values, dtype=np.float64)
    return rounds[rng.integers(0, len(rounds), (DRAWS, len(rounds)))]
