"""What a chart of points and lines is, before it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pcompiler.bench.html.axis import Axis

SHAPES = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Mark:
    """One point: its values, words beside it (few have them), and words on touch."""

    x: float
    y: float
    title: str
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        name: for the legend.
        marks: in the order of the line.
        colour: 1 to 6, of the page's palette; 0: grey.
        shape: of the points; empty: the line alone.
        line: whether they are joined.
        dashed: whether that line is.
        wide: a broad, pale line, to lie behind others.
    """

    name: str
    marks: tuple[Mark, ...]
    colour: int
    shape: str = "circle"
    line: bool = True
    dashed: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Rule:
    """A level to compare with, all along the chart."""

    name: str
    y: float
    colour: int = 0


@dataclass(frozen=True)
class Plot:
    """Series on two axes; what lies outside them is left out of the lines."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rules: tuple[Rule, ...] = ()
    height: int = 320

    def line(self, series: Series) -> str:
        """Its points in per cent, y downwards, as SVG has them."""
        return " ".join(f"{self.x.at(m.x)},{self.down(m.y)}" for m in self.inside(series))

    def inside(self, series: Series) -> Sequence[Mark]:
        """The marks that the axes hold."""
        return [m for m in series.marks if self.x.holds(m.x) and self.y.holds(m.y)]

    def down(self, y: float) -> float:
        """Place from the top in per cent."""
        return round(100 - self.y.at(y), 2)
