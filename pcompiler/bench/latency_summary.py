"""Latencies of single calls in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcompiler.errors import InputError


@dataclass(frozen=True)
class Summary:
    """Seconds of calls.

    Attributes:
        count: calls.
        mean: of all.
        p50: half took no longer; so of the others: the smallest latency that this share of the
            calls did not exceed, one that was seen and no interpolation.
        p99: 99 of 100.
        p999: 999 of 1,000.
        most: the slowest.
    """

    count: int
    mean: float
    p50: float
    p99: float
    p999: float
    most: float


def summary(seconds: NDArray[np.floating]) -> Summary:
    """Summarise. Raises InputError where there are none."""
    if not len(seconds):
        raise InputError("there are no latencies to summarise.")
    found = np.quantile(seconds, (0.5, 0.99, 0.999), method="inverted_cdf")
    p50, p99, p999 = map(float, found)
    return Summary(len(seconds), float(seconds.mean()), p50, p99, p999, float(seconds.max()))
