"""What malloc keeps of what was freed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache


def give_back() -> None:
    """Let the system have what malloc keeps, as what comes next needs blocks of other sizes.

    After a prompt's probes have been answered that is as much as the answers took at their peak.
    glibc's only; other C libraries give back by themselves, or cannot be told.
    """
    if trim := _trim():
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], object] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
