"""An axis: from a value to a place in per cent of the width or height, and its ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Shown = Callable[[float], str]
STEPS = (1, 2, 5)
LOG_STEPS = ((1, 2, 5), (1, 3), (1,))  # of a decade, the closest first


@dataclass(frozen=True)
class Axis:
    """A range of values, laid out evenly or by their logarithms.

    Attributes:
        low: value at the left, or at the bottom.
        high: value at the right, or at the top; above ``low``.
        shown: a tick's words.
        log: by logarithms; ``low`` is above 0 then.
        most: ticks that there is room for, on a phone too.
        title: what it counts.
    """

    low: float
    high: float
    shown: Shown
    log: bool = True
    title: str = ""
    most: int = 6

    def __post_init__(self) -> None:
        assert self.low < self.high, "an axis has a length"
        assert not self.log or self.low > 0, "only what is above 0 has a logarithm"

    def at(self, value: float) -> float:
        """Place from the low end, 0 to 100; what is beyond an end lies on it."""
        if self.log:
            value = max(value, self.low)
            low, high, value = math.log(self.low), math.log(self.high), math.log(value)
        else:
            low, high = self.low, self.high
        return round(min(max(100 * (value - low) / (high - low), 0.0), 100.0), 2)

    def holds(self, value: float) -> bool:
        """Whether the value is not beyond an end."""
        return self.low <= value <= self.high

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Place and words of each."""
        values = self._decades() if self.log else self._even()
        return [(self.at(value), self.shown(value)) for value in values if self.holds(value)]

    def _decades(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        powers = range(first, last + 1)
        for steps in LOG_STEPS:
            found = [step * 10.0**power for power in powers for step in steps]
            if sum(map(self.holds, found)) <= self.most:
                return found
        every = math.ceil(math.log10(self.high / self.low) / (self.most - 1))
        return [10.0**power for power in powers if power % every == 0]

    def _even(self) -> list[float]:
        rough = (self.high - self.low) / 4
        size = 10.0 ** math.floor(math.log10(rough))
        step = next((s * size for s in (*STEPS, 10) if s * size >= rough * 0.999), 10 * size)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def around(values: Iterable[float], shown: Shown, title: str = "", most: int = 6) -> Axis:
    """A logarithmic axis with some room beside the values; those not above 0 are left out."""
    found = [value for value in values if value > 0 and math.isfinite(value)]
    low, high = (min(found), max(found)) if found else (1.0, 10.0)
    room = max((high / low) ** 0.04, 1.15)
    return Axis(low / room, high * room, shown, title=title, most=most)
