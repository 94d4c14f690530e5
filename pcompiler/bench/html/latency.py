"""Latencies of single calls: histograms where a run kept them, percentiles of any run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pcompiler.bench.harness import BUCKETS, Figure
from pcompiler.bench.html.axis import Axis, around
from pcompiler.bench.html.quantity import number, quantity

Bar = tuple[float, float, float, str]  # left, width and height in per cent, words


@dataclass(frozen=True)
class Operation:
    """One operation's calls.

    Attributes:
        name: of the operation.
        p50: half took no longer.
        p99: 99 of 100 took no longer.
    """

    name: str
    p50: Figure
    p99: Figure
    axis: Axis

    @property
    def bars(self) -> list[Bar]:
        """Ours."""
        return _bars(self.p50.histogram, self.axis)

    @property
    def baseline_bars(self) -> list[Bar]:
        """The baseline's."""
        return _bars(self.p50.baseline_histogram, self.axis)

    @property
    def calls(self) -> int:
        """How many are in the histogram."""
        return sum(count for _, count in self.p50.histogram)


@dataclass(frozen=True)
class Latencies:
    """All operations of a run, on one axis."""

    axis: Axis
    operations: tuple[Operation, ...]


def latencies(figures: Sequence[Figure]) -> Latencies | None:
    """The operations that have a 50th and a 99th percentile; none without any."""
    pairs = list(_pairs(figures))
    if not pairs:
        return None
    values = [v for _, *both in pairs for f in both for v in (f.value, f.baseline or f.value)]
    values += [v for _, p50, _ in pairs for v in _body(p50)]
    axis = around(values, lambda v: quantity(v, "s"), "time of one call")
    return Latencies(axis, tuple(Operation(n, p50, p99, axis) for n, p50, p99 in pairs))


def _pairs(figures: Sequence[Figure]) -> Iterator[tuple[str, Figure, Figure]]:
    p99 = {f.name.removesuffix(", p99"): f for f in figures if f.name.endswith(", p99")}
    for figure in figures:
        name = figure.name.removesuffix(", p50")
        if name != figure.name and name in p99 and figure.unit == "s" and figure.value > 0:
            yield name, figure, p99[name]


def _body(figure: Figure) -> Iterator[float]:
    """Buckets that hold at least a thousandth of the calls; the rest goes to the edges."""
    for histogram in (figure.histogram, figure.baseline_histogram):
        total = sum(count for _, count in histogram)
        yield from (low for low, count in histogram if count >= total / 1000)


def _bars(histogram: Sequence[tuple[float, int]], axis: Axis) -> list[Bar]:
    total = sum(count for _, count in histogram)
    most = max((count for _, count in histogram), default=1)
    bars = []
    for low, count in histogram:
        high = low * 10 ** (1 / BUCKETS)
        left, right = axis.at(low), axis.at(high)
        words = f"{quantity(low, 's')} to {quantity(high, 's')}: {number(100 * count / total)} %"
        if right > left:
            bars.append((left, round(right - left, 2), round(100 * count / most, 2), words))
    return bars
