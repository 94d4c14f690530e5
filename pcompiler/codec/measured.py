"""One call of zstd, reported: bytes in and out, seconds, and what it was of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from pcompiler import meter


def measured(
    operation: Literal["compress", "decompress"],
    content: Literal["tensors", "texts"],
    work: Callable[[bytes], bytes],
    data: bytes,
) -> bytes:
    """``work(data)``; what raises is not reported."""
    if meter.listener is None:
        return work(data)
    start = time.perf_counter()
    made = work(data)
    seconds = time.perf_counter() - start
    of = {"operation": operation, "content": content}
    meter.observe("compression_seconds", seconds, **of)
    meter.count("compression_bytes", len(data), side="in", **of)
    meter.count("compression_bytes", len(made), side="out", **of)
    return made
