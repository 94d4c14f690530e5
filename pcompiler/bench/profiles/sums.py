"""What a profile comes to: time by named range and by operator, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pcompiler.bench.profiles.spans import Span
from pcompiler.table import percent, render, seconds

TOP_OPERATORS = 15


@dataclass
class Sum:
    """Everything of one name.

    Attributes:
        name: of the operator, or of the range.
        calls: how often it ran.
        total_s: seconds in it; where it ran within itself, counted once.
        self_s: of these, in no operator and no range within it: torch's self CPU time.
        own_s: of a range, in no other range within it; of an operator, the same as ``self_s``.
        device_s: of the kernels that were launched in it, on the device.
    """

    name: str
    calls: int = 0
    total_s: float = 0.0
    self_s: float = 0.0
    own_s: float = 0.0
    device_s: float = 0.0


def by_range(spans: Iterable[Span]) -> list[Sum]:
    """Named ranges."""
    spans = list(spans)
    found = _summed(span for span in spans if span.is_range)
    for span in spans:
        if span.device_us:
            names = {s.name for s in (span, *span.around()) if s.is_range}
            for name in names:
                found[name].device_s += span.device_us / 1e6
    return list(found.values())


def by_operator(spans: Iterable[Span]) -> list[Sum]:
    """Operators."""
    spans = [span for span in spans if not span.is_range]
    found = _summed(spans)
    for span in spans:
        found[span.name].device_s += span.device_us / 1e6
    return list(found.values())


def _summed(spans: Iterable[Span]) -> dict[str, Sum]:
    found: dict[str, Sum] = {}
    for span in spans:
        row = found.setdefault(span.name, Sum(span.name))
        row.calls += 1
        row.self_s += (span.total_us - span.spans_us) / 1e6
        inside = span.ranges_us if span.is_range else span.spans_us
        row.own_s += (span.total_us - inside) / 1e6
        if all(around.name != span.name for around in span.around()):
            row.total_s += span.total_us / 1e6
    return found


def merged(parts: Iterable[Sequence[Sum]]) -> list[Sum]:
    """The same names of several traces, added up; those with most time of their own first."""
    found: dict[str, Sum] = {}
    for part in parts:
        for row in part:
            to = found.setdefault(row.name, Sum(row.name))
            to.calls += row.calls
            to.total_s += row.total_s
            to.self_s += row.self_s
            to.own_s += row.own_s
            to.device_s += row.device_s
    return sorted(found.values(), key=lambda row: -row.own_s)


def ranges_table(rows: Sequence[Sum], wall_s: float) -> str:
    """Ranges beside the wall time of all that was profiled."""
    device = any(row.device_s for row in rows)
    columns = ("named range", "calls", "total", "share", "own", "own share", "self CPU")
    return render(
        (*columns, "device") if device else columns,
        [
            (
                *(row.name, str(row.calls), seconds(row.total_s), percent(row.total_s / wall_s)),
                *(seconds(row.own_s), percent(row.own_s / wall_s), seconds(row.self_s)),
                *((seconds(row.device_s),) if device else ()),
            )
            for row in rows
        ],
    )


def operators_table(rows: Sequence[Sum], wall_s: float, count: int = TOP_OPERATORS) -> str:
    """The operators with most time of their own."""
    device = any(row.device_s for row in rows)
    columns = ("operator", "calls", "total", "self CPU", "share")
    return render(
        (*columns, "device") if device else columns,
        [
            (
                *(row.name, str(row.calls), seconds(row.total_s), seconds(row.self_s)),
                percent(row.self_s / wall_s),
                *((seconds(row.device_s),) if device else ()),
            )
            for row in rows[:count]
        ],
    )
