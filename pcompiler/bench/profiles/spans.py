"""A trace as it nests: operators and named ranges, each within what it ran in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]  # of the Chrome trace format, times in microseconds

PREFIX = "pcompiler: "  # of our ranges, to tell them from torch's own
OPERATOR, RANGE, KERNEL = "cpu_op", "user_annotation", ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass(eq=False, slots=True)
class Span:
    """An operator or a named range, on the thread that it ran on.

    Attributes:
        event: of the trace.
        name: without the prefix.
        is_range: one of ours; else an operator.
        parent: the innermost span around it.
        spans_us: time in the spans directly within it.
        ranges_us: time in the ranges within it, without those within these.
        device_us: time of the kernels that it launched itself.
    """

    event: Event
    name: str
    is_range: bool
    parent: Span | None
    spans_us: float = 0.0
    ranges_us: float = 0.0
    device_us: float = 0.0

    @property
    def total_us(self) -> float:
        """From its beginning to its end."""
        us: float = self.event["dur"]
        return us

    def around(self) -> Iterator[Span]:
        """What it ran in, the innermost first."""
        span = self.parent
        while span is not None:
            yield span
            span = span.parent

    @property
    def path(self) -> tuple[str, ...]:
        """Names of the ranges around it and its own, the outermost first."""
        names = [span.name for span in self.around() if span.is_range]
        return (*reversed(names), self.name)


def spans(events: Iterable[Event]) -> list[Span]:
    """All operators and named ranges, in order of time on each thread."""
    threads: dict[tuple[object, object], list[Event]] = defaultdict(list)
    launched: dict[int, float] = defaultdict(float)
    for event in events:
        if event.get("ph") != "X":
            continue
        if event.get("cat") == OPERATOR or _is_ours(event):
            threads[event["pid"], event["tid"]].append(event)
        elif event.get("cat") in KERNEL:
            launched[event.get("args", {}).get("External id", 0)] += event["dur"]
    found = [span for thread in threads.values() for span in _nested(thread)]
    for span in found:
        span.device_us = launched.get(span.event.get("args", {}).get("External id", 0), 0.0)
    return found


def _nested(events: list[Event]) -> list[Span]:
    events.sort(key=lambda event: (event["ts"], -event["dur"]))
    found: list[Span] = []
    parent: Span | None = None
    for event in events:
        while parent is not None and _end(parent.event) <= event["ts"]:
            parent = parent.parent
        ours = event["cat"] != OPERATOR
        span = Span(event, event["name"].removeprefix(PREFIX), ours, parent)
        found.append(span)
        if parent is not None:
            parent.spans_us += span.total_us
            around = (s for s in (parent, *parent.around()) if s.is_range)
            outer = next(around, None) if ours else None
            if outer is not None:
                outer.ranges_us += span.total_us
        parent = span
    return found


def _is_ours(event: Mapping[str, Any]) -> bool:
    named: bool = event["name"].startswith(PREFIX)
    return event.get("cat") == RANGE and named


def _end(event: Mapping[str, Any]) -> float:
    end: float = event["ts"] + event["dur"]
    return end
