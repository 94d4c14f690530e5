"""What a process holds, by four measures, each of which sees leaks that others miss.

Resident memory is all of it, but comes in pages and is kept after use. What malloc has handed out
is exact to the byte, and has torch's tensors and RocksDB's buffers in it, but not Python's small
objects; those are counted by the interpreter. On an accelerator, memory is torch's to count.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

import psutil

from pcompiler.device import Device


def rss_bytes(also: Iterable[int] = ()) -> int:
    """Resident memory of this process, and of others by their ids, those that are gone left out."""
    return rss_of((os.getpid(), *also))


def rss_of(pids: Iterable[int]) -> int:
    """Resident memory of processes by their ids; pages that they share count in each."""
    total = 0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_info().rss
    return total


def measures(device: Device) -> dict[str, float]:
    """Resident bytes, malloc's bytes (glibc's only), Python's blocks, the device's bytes."""
    gc.collect()
    found = {"rss": float(rss_bytes()), "python_blocks": float(sys.getallocatedblocks())}
    if (heap := heap_bytes()) is not None:
        found["heap"] = float(heap)
    if (held := device.allocated_bytes()) is not None:
        found["device"] = float(held)
    return found


def heap_bytes() -> int | None:
    """Bytes that malloc has handed out and not got back; None where that is not glibc's."""
    ask = _mallinfo2()
    if ask is None:
        return None
    told = ask()
    return int(told.uordblks + told.hblkhd)


class _Mallinfo2(ctypes.Structure):
    """As mallinfo(3) has it; ``uordblks`` is in use, ``hblkhd`` beside the heap, in mmap."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _mallinfo2() -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):  # another C library, or glibc before 2.33
        return None
    function.restype = _Mallinfo2
    return function
