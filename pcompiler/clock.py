"""Seconds by stage: wall time, or for a while another clock's. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_read: Callable[[], float] = time.perf_counter


def seconds() -> float:
    """What stages are timed by: the difference of two is what lies between them."""
    return _read()


@contextmanager
def timing_by(read: Callable[[], float]) -> Iterator[None]:
    """Time all stages of this process by another clock inside the block.

    Args:
        read: as ``time.process_time``, which other processes on the machine disturb little.
    """
    global _read
    before, _read = _read, read
    try:
        yield
    finally:
        _read = before


class Clock:
    """Seconds by stage; a stage may come back."""

    def __init__(self) -> None:
        self._start = seconds()
        self.laps: dict[str, float] = {}

    def elapsed(self) -> float:
        """Seconds since the start."""
        return seconds() - self._start

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Add the time of a ``with`` block to a stage."""
        start = seconds()
        yield
        self.laps[name] = self.laps.get(name, 0.0) + seconds() - start
