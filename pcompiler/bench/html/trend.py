"""How figures moved over kept runs of one setup, and over released versions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import fmean

from pcompiler.bench.history import History, Kept, Point, ordered, series, setup, version
from pcompiler.bench.html.axis import Axis
from pcompiler.bench.html.quantity import quantity
from pcompiler.bench.html.scores import suites, times_as_good
from pcompiler.bench.runs import Run
from pcompiler.bench.trends import Trend, trend

RELEASED = ("weight_dynamics", "compression_performance", "storage_performance")


@dataclass(frozen=True)
class Spark:
    """One figure's small chart; the oldest commit is at the left."""

    trend: Trend
    points: tuple[Point, ...]

    @property
    def places(self) -> list[tuple[float, float, str]]:
        """Of each point: x and y in per cent, words."""
        values = [point.figure.value for point in self.points]
        room = (max(values) - min(values)) * 0.12 or abs(values[0]) * 0.1 or 1.0
        y = Axis(min(values) - room, max(values) + room, str, log=False)
        x = Axis(0, max(1, len(values) - 1), str, log=False)
        return [
            (x.at(n), round(100 - y.at(p.figure.value), 2), self._words(p))
            for n, p in enumerate(self.points)
        ]

    @property
    def ends(self) -> tuple[str, str]:
        """First and last value."""
        return quantity(self.trend.first, self.trend.unit), quantity(
            self.trend.last, self.trend.unit
        )

    @property
    def change(self) -> str:
        """From the first to the last, as many times as good."""
        last = self.points[-1].figure
        good = times_as_good(last, last.value, self.points[0].figure.value)
        if good is None or math.isinf(good) or good == 0:
            return ""
        side = "better" if good > 1 else "worse"
        return "unchanged" if abs(good - 1) < 0.005 else f"{100 * abs(good - 1):.0f} % {side}"

    def _words(self, point: Point) -> str:
        kept = point.kept
        value = quantity(point.figure.value, point.figure.unit)
        return f"{kept.name} ({kept.run.version}, {kept.run.commit or 'no commit'}): {value}"


@dataclass(frozen=True)
class Trends:
    """What the report says of a run's past.

    Attributes:
        kept: runs of the same setup, the oldest commit first; the reported one is among them.
        others: kept runs of other setups, which no line joins to these.
        headline: small charts of figures with a reference or a goal.
        rest: of the others.
        versions: version, name of its newest run, a mean ratio for each of ``RELEASED``.
    """

    kept: tuple[Kept, ...]
    others: tuple[Kept, ...]
    headline: tuple[Spark, ...]
    rest: tuple[Spark, ...]
    versions: tuple[tuple[str, str, tuple[str, ...]], ...]


def trends(run: Run, name: str, history: History) -> Trends:
    """The past of a run; nothing is joined that was not measured on the same setup."""
    known = [(k.name, k.run) for k in history.kept if k.run != run]
    kept = History(ordered([*known, (name, run)]))
    same = kept.like(run)
    sparks = [Spark(trend(label, points), points) for label, points in series(same).items()]
    sparks = [spark for spark in sparks if len(spark.points) > 1]
    first = [s for s in sparks if _aimed(s)]
    return Trends(
        same,
        tuple(one for one in kept.kept if setup(one.run) != setup(run)),
        tuple(first),
        tuple(s for s in sparks if not _aimed(s)),
        tuple(_versions(same)),
    )


def day(kept: Kept) -> str:
    """The date that a run stands for."""
    return datetime.fromtimestamp(kept.when, timezone.utc).date().isoformat()


def _aimed(spark: Spark) -> bool:
    last = spark.points[-1].figure
    return last.reference is not None or last.goal is not None


def _versions(kept: Sequence[Kept]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    newest = {version(one.run): one for one in kept}
    for _, one in sorted(newest.items()):
        yield one.run.version, one.name, tuple(_mean_ratio(one.run, suite) for suite in RELEASED)


def _mean_ratio(run: Run, suite: str) -> str:
    """Geometric mean of all ratios to the reference."""
    found = [s.ratio for part in suites(run) if part.part.suite == suite for s in part.compared]
    logs = [math.log(ratio) for ratio in found if ratio and math.isfinite(ratio)]
    return f"{math.exp(fmean(logs)):.3g}×" if logs else ""
