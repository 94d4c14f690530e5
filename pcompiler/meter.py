"""How components say what they did, by the names of ``measures``: counts, measurements, states.

    meter.count("prompt_tokens", 1105, target="kv", side="in")
    with meter.timed("pass_seconds", step="normalize"):
        …

Without a listener nothing is kept, and a report costs a call and a comparison (60 to 150 ns);
where that is too much, ask ``meter.listener is not None`` first. What is hotter still is counted
by its component, a source, and reported when the listener asks for it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from pcompiler.measures import Kind

Report = Callable[[float], None]


class Listener(Protocol):
    """Who keeps what is reported; may be called by several threads at once."""

    def bound(self, kind: Kind, name: str, labels: Mapping[str, str]) -> Report:
        """What takes values of one series: an amount, a measurement or a state.

        Raises:
            MeasureError: not in the table.
        """
        ...


class Source(Protocol):
    """A component that reports when it is asked to. It is forgotten when nobody else holds it."""

    def listen(self) -> None:
        """A listener has come or gone."""
        ...

    def report(self) -> None:
        """Say what has happened since last time, and how things stand."""
        ...


listener: Listener | None = None
_sources: weakref.WeakSet[Source] = weakref.WeakSet()
_reporting = threading.RLock()


def attach(new: Listener | None) -> None:
    """Let this listener have everything from now on; None: nobody."""
    global listener
    with _reporting:
        listener = new
        for source in list(_sources):
            source.listen()


def watch(source: Source) -> None:
    """Ask this source for reports, as long as it lives."""
    with _reporting:
        _sources.add(source)
        source.listen()


def report() -> None:
    """Ask all sources: the listener does before it is read, and once a second.

    One that fails keeps no other from reporting; its error is raised at the end.
    """
    with _reporting:
        errors = [_error(source) for source in list(_sources) if listener is not None]
    for error in errors:
        if error is not None:
            raise error


def _error(source: Source) -> Exception | None:
    try:
        source.report()
    except Exception as e:
        return e
    return None


def count(name: str, amount: float = 1, /, **labels: str) -> None:
    """Add to a counter."""
    if listener is not None:
        listener.bound("counter", name, labels)(amount)


def observe(name: str, value: float, /, **labels: str) -> None:
    """Give one measurement to a histogram."""
    if listener is not None:
        listener.bound("histogram", name, labels)(value)


def gauge(name: str, value: float, /, **labels: str) -> None:
    """Say how things stand."""
    if listener is not None:
        listener.bound("gauge", name, labels)(value)


@contextmanager
def timed(name: str, /, **labels: str) -> Iterator[None]:
    """Measure the seconds inside, unless they end in an error."""
    start = time.perf_counter()
    yield
    observe(name, time.perf_counter() - start, **labels)


def bind(kind: Kind, name: str, /, **labels: str) -> Report:
    """One series for a hot path, found once: 0.4 µs a report less. Attach the listener before."""
    return (lambda _: None) if listener is None else listener.bound(kind, name, labels)
