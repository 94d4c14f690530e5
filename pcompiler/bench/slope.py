"""Whether a series grows: a robust slope, and how sure it is, though neighbours are alike.

The slope is Theil and Sen's, the median of those between all pairs: a few samples that stand out
move it little. Its interval is of a block bootstrap: residuals are drawn in runs, as memory goes up
and down in runs (a buffer fills and is written), and single draws would take that for noise that
averages out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pcompiler.errors import InputError

DRAWS = 400
CONFIDENCE = 0.99  # of the interval
FEWEST = 8  # samples
MOST = 400  # samples that are looked at: there are n² / 2 pairs

Series = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Slope:
    """Growth a step, in the series' unit.

    Attributes:
        value: Theil and Sen's slope.
        low: lower end of the 99 % interval.
        high: upper end.
        samples: that it is of, warm-up left out.
    """

    value: float
    low: float
    high: float
    samples: int

    def exceeds(self, floor: float) -> bool:
        """Whether it grows by more than ``floor`` a step, beyond doubt."""
        return self.low > floor


def slope(steps: Sequence[float], values: Sequence[float], seed: int = 0) -> Slope:
    """The slope of a series.

    Args:
        steps: where the samples are, ascending.
        values: what was seen there.
        seed: of the bootstrap.

    Raises:
        InputError: fewer than 8 samples.
    """
    if len(values) < FEWEST:
        raise InputError(f"{len(values)} samples say nothing of a slope; take {FEWEST} or more.")
    keep = np.unique(np.linspace(0, len(values) - 1, min(MOST, len(values))).round().astype(int))
    x, y = np.asarray(steps, float)[keep], np.asarray(values, float)[keep]
    value = float(np.median(between(x, y)))
    residuals = y - value * x
    rng = np.random.default_rng(seed)
    length = max(2, math.ceil(len(x) ** 0.5))
    drawn = [
        value + float(np.median(between(x, _runs(residuals, length, rng)))) for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Slope(value, float(low), float(high), len(values))


def between(steps: npt.ArrayLike, values: npt.ArrayLike) -> Series:
    """(n (n − 1) / 2,) the slopes between all pairs; Theil and Sen's is their median."""
    x, y = np.asarray(steps, float), np.asarray(values, float)
    first, second = np.triu_indices(len(x), 1)
    found: Series = (y[second] - y[first]) / (x[second] - x[first])
    return found


def _runs(residuals: Series, length: int, rng: np.random.Generator) -> Series:
    """As many residuals, in runs from anywhere."""
    count = math.ceil(len(residuals) / length)
    starts = rng.integers(0, len(residuals) - length + 1, count)
    places = (starts[:, None] + np.arange(length)).ravel()[: len(residuals)]
    drawn: Series = residuals[places]
    return drawn
