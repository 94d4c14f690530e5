"""Statistics of each figure over kept runs, one setup at a time, as JSON and as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pcompiler.bench.harness import spread
from pcompiler.bench.history import History, Kept, Point, Setup, series, setup
from pcompiler.bench.slope import between

FEWEST = 5  # runs that can show a trend: of fewer, all in order is no rare chance
Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class Trend:
    """One figure over the runs of one setup.

    Attributes:
        label: suite and name.
        unit: of the numbers.
        better: which direction is good.
        n: runs that have it.
        median: over them.
        iqr: interquartile range.
        variation: standard deviation over the mean; none of one run, or of a mean of 0.
        first: of the oldest commit.
        last: of the newest.
        slope: median change from a run to the next (Theil–Sen); none below 5 runs.
        slope_low: lower end of its 95 % interval (Sen, 1968).
        slope_high: upper end.
    """

    label: str
    unit: str
    better: str
    n: int
    median: float
    iqr: float
    variation: float | None
    first: float
    last: float
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None

    @property
    def verdict(self) -> str:
        """In words: better, worse, no trend, or too few runs."""
        if self.slope_low is None or self.slope_high is None:
            return f"too few runs (a trend needs {FEWEST})"
        if self.slope_low <= 0 <= self.slope_high:
            return "no trend"
        rising = self.slope_low > 0
        return "better" if rising == (self.better == "higher") else "worse"


def trend(label: str, points: Sequence[Point]) -> Trend:
    """The statistics of one figure, oldest first."""
    values = [point.figure.value for point in points]
    figure, mean = points[-1].figure, statistics.fmean(values)
    varies = len(values) > 1 and mean != 0
    return Trend(
        label, figure.unit, figure.better, len(values), statistics.median(values), spread(values),
        statistics.stdev(values) / abs(mean) if varies else None, values[0], values[-1],
        *(slope(values) if len(values) >= FEWEST else ()),
    )  # fmt: skip


def slope(values: Sequence[float]) -> tuple[float, float, float]:
    """Theil and Sen's slope from a run to the next, and its 95 % interval by Kendall's variance.

    Runs are few and apart, unlike samples of one run: see ``bench.slope`` for those.
    """
    slopes = np.sort(between(range(len(values)), values)).tolist()
    n, count = len(values), len(slopes)
    half = Z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((count - half) / 2))
    high = min(count - 1, math.ceil((count + half) / 2))
    return statistics.median(slopes), slopes[low], slopes[high]


def by_setup(history: History) -> dict[Setup, list[Kept]]:
    """The runs, parted by what must not be mixed."""
    found: dict[Setup, list[Kept]] = {}
    for kept in history.kept:
        found.setdefault(setup(kept.run), []).append(kept)
    return found


def as_json(history: History) -> dict[str, Any]:
    """All setups, their runs and the statistics of every figure."""
    setups = []
    for shared, kept in by_setup(history).items():
        trends = [trend(label, points) for label, points in series(kept).items()]
        figures = [asdict(one) | {"verdict": one.verdict} for one in trends]
        names = [one.name for one in kept]
        setups.append(shared._asdict() | {"runs": names, "figures": figures})
    return {"schema": 1, "setups": setups, "refused": [list(pair) for pair in history.refused]}


def as_markdown(history: History) -> str:
    """The same for people."""
    parts = ["# Kept runs: how figures vary and where they go", *_refused(history)]
    for shared, kept in by_setup(history).items():
        title = f"{shared.machine}; {'quick' if shared.quick else 'full'}"
        parts.append("\n".join(_section(title, kept)))
    if not history.kept:
        parts.append("No run is kept yet; `python -m pcompiler.bench --save NAME` keeps one.")
    return "\n\n".join(parts) + "\n"


def _refused(history: History) -> Iterator[str]:
    if history.refused:
        yield "\n".join(f"- not read: {name}: {why}" for name, why in history.refused)


def _section(title: str, kept: Sequence[Kept]) -> Iterator[str]:
    names = ", ".join(f"{one.name} ({one.run.version}, {one.run.commit})" for one in kept)
    count = f"{len(kept)} run{'s' if len(kept) > 1 else ''}"
    yield f"## {title}\n\n{count}, oldest commit first: {names}"
    yield ""
    yield "| figure | unit | n | median | IQR | variation | first | last | slope a run | trend |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|---|"
    for label, points in series(kept).items():
        yield _line(trend(label, points))


def _line(one: Trend) -> str:
    slope = "–"
    if one.slope is not None:
        slope = f"{one.slope:.3g} ({one.slope_low:.3g} to {one.slope_high:.3g})"
    variation = "–" if one.variation is None else f"{one.variation:.1%}"
    numbers = (f"{value:.4g}" for value in (one.median, one.iqr))
    ends = (f"{value:.4g}" for value in (one.first, one.last))
    cells = (one.label, one.unit, str(one.n), *numbers, variation, *ends, slope, one.verdict)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
