"""Memory that malloc keeps after it was freed."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from pcompiler import heap


def resident() -> int:
    """Anonymous memory of this process, in KB."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's only")
def test_what_was_freed_below_something_that_stays_is_given_back() -> None:
    pairs = [(bytearray(b"x" * 64_000), bytearray(b"x" * 1_000)) for _ in range(2_000)]
    stay = [small for _, small in pairs]  # to the heap's end, which malloc shortens by itself
    pairs.clear()
    before = resident()
    heap.give_back()
    assert before - resident() > 60_000  # of 125,000
    assert len(stay) == 2_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_trim", lambda: None)
    heap.give_back()
