"""Each figure's standing: how many times as good as the reference, reached or missed, why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pcompiler.bench.harness import Figure
from pcompiler.bench.html.axis import Axis
from pcompiler.bench.html.quantity import quantity, ratio
from pcompiler.bench.report import goal_reached, reached
from pcompiler.bench.runs import Part, Run, labels

WIDEST = 1e6  # beyond this a ratio lies on the edge
FIRST_SCREEN = 6  # rows of each list there


def times_as_good(figure: Figure, value: float, than: float | None) -> float | None:
    """How many times as good ``value`` is, in the figure's direction; none: no ratio says it."""
    if than is None:
        return None
    good, bad = (value, than) if figure.better == "higher" else (than, value)
    if good < 0 or bad < 0 or good == bad == 0:
        return None
    return good / bad if bad else math.inf


@dataclass(frozen=True)
class Score:
    """A figure with its label and its place beside the reference.

    Attributes:
        label: suite and name.
        figure: the figure.
        head: that it goes on from, when its name begins with an ellipsis; else itself.
    """

    label: str
    figure: Figure
    head: Figure

    @property
    def name(self) -> str:
        """Without the suite."""
        return self.label.removeprefix(f"{self.figure.suite}: ")

    @property
    def outcome(self) -> str:
        """Yes, no, or nothing where there is no reference."""
        return reached(self.figure)

    @property
    def goal_outcome(self) -> str:
        """The same of the goal."""
        return goal_reached(self.figure)

    @property
    def ratio(self) -> float | None:
        """To the reference; more than 1 is better."""
        return times_as_good(self.figure, self.figure.value, self.figure.reference)

    @property
    def ratio_shown(self) -> str:
        """The same in words."""
        return "–" if self.ratio is None else ratio(self.ratio)

    @property
    def to_baseline(self) -> str:
        """Ours beside the baseline of the same run, in words."""
        found = times_as_good(self.figure, self.figure.value, self.figure.baseline)
        return "" if found is None else ratio(found)

    @property
    def baseline_ratio(self) -> float | None:
        """The baseline beside the reference."""
        if self.figure.baseline is None:
            return None
        return times_as_good(self.figure, self.figure.baseline, self.figure.reference)

    @property
    def range(self) -> tuple[float, float] | None:
        """Ratios between which half the rounds lie."""
        f = self.figure
        if not f.spread or self.ratio is None or f.spread >= 2 * f.value:
            return None
        ends = (times_as_good(f, f.value + s * f.spread / 2, f.reference) for s in (-1, 1))
        low, high = sorted(end for end in ends if end is not None)
        return low, high

    def shown(self, value: float | None) -> str:
        """A value in the figure's unit."""
        return quantity(value, self.figure.unit)

    @property
    def reason(self) -> str:
        """Why the reference is missed: what the suite says, or that the baseline misses it too."""
        if note := self.figure.note or self.head.note:
            return note
        base = self.baseline_ratio
        if base is not None and base < 1:
            return (
                f"The baseline of the same run misses it too: {self.shown(self.figure.baseline)}."
            )
        return "The run records no reason."


@dataclass(frozen=True)
class Suite:
    """The scores of one suite of a run."""

    part: Part
    scores: tuple[Score, ...]

    @property
    def title(self) -> str:
        """Its name as words."""
        return self.part.suite.replace("_", " ").capitalize()

    @property
    def compared(self) -> tuple[Score, ...]:
        """Those with a reference, best ratio first; without a ratio, last."""
        return ranked(score for score in self.scores if score.outcome)

    @property
    def aimed(self) -> tuple[Score, ...]:
        """Those with a goal of our own and no reference."""
        return tuple(s for s in self.scores if s.goal_outcome and not s.outcome)

    @property
    def met(self) -> tuple[Score, ...]:
        """Those that reach the reference."""
        return tuple(score for score in self.compared if score.outcome == "yes")

    @property
    def missed(self) -> tuple[Score, ...]:
        """Those that do not, the furthest off first."""
        return tuple(reversed([s for s in self.compared if s.outcome == "no"]))

    @cached_property
    def axis(self) -> Axis:
        """Of ratios, with the reference in it."""
        return ratio_axis(self.compared)


def ranked(scores: Iterable[Score]) -> tuple[Score, ...]:
    """The best ratio first."""
    return tuple(sorted(scores, key=lambda s: -1.0 if s.ratio is None else s.ratio, reverse=True))


def ratio_axis(scores: Sequence[Score]) -> Axis:
    """From the worst to the best ratio, and 1 well inside."""
    found = [r for s in scores for r in (s.ratio, s.baseline_ratio, *(s.range or ())) if r]
    found = [min(max(r, 1 / WIDEST), WIDEST) for r in found]
    low, high = min([*found, 0.5]), max([*found, 2.0])
    return Axis(low / 1.25, high * 1.25, ratio)


def suites(run: Run) -> tuple[Suite, ...]:
    """The run by suite, in its order."""
    every: list[Score] = []
    for label, figure in labels(run.figures).items():
        goes_on = figure.name.startswith("…") and every
        every.append(Score(label, figure, every[-1].head if goes_on else figure))
    return tuple(
        Suite(part, tuple(score for score in every if score.figure.suite == part.suite))
        for part in run.parts
    )


def strongest(found: Sequence[Suite]) -> tuple[Score, ...]:
    """The first screen's best: the best of each suite, then the next best of any."""
    return ranked(_outermost([suite.met for suite in found], ranked))


def weakest(found: Sequence[Suite]) -> tuple[Score, ...]:
    """The same of the misses, the furthest off first."""
    return _furthest(_outermost([suite.missed for suite in found], _furthest))


def _furthest(scores: Iterable[Score]) -> tuple[Score, ...]:
    return ranked(scores)[::-1]


def _outermost(
    groups: Sequence[Sequence[Score]], order: Callable[[Iterable[Score]], tuple[Score, ...]]
) -> tuple[Score, ...]:
    first = tuple(scores[0] for scores in groups if scores)
    rest = order(score for scores in groups for score in scores[1:])
    return first + rest[: max(0, FIRST_SCREEN - len(first))]
