"""Traces as files that TensorBoard's PyTorch plugin, ui.perfetto.dev and chrome://tracing open.

The plugin drops named ranges. It does show modules: what has Python ids of its own and of its
parent's. So ranges are written as such, one id for each path of ranges: its Module page then is
the tree of our ranges, and its Operator page stays that of operators. Times are left as they are.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pcompiler.bench.profiles.spans import Span

SUFFIX = ".pt.trace.json.gz"  # what the plugin looks for
_LEVEL = 6  # of gzip


def read(path: Path) -> dict[str, Any]:
    """A trace as torch wrote it, or as ``write`` did.

    Raises:
        OSError, ValueError: it cannot be read, or is no JSON.
    """
    data = path.read_bytes()
    trace: dict[str, Any] = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return trace


def show_as_modules(spans: Iterable[Span]) -> None:
    """Change the events of named ranges into those of modules."""
    numbers: dict[tuple[str, ...], int] = {(): 0}
    for span in spans:
        if not span.is_range:
            continue
        path = span.path
        number = numbers.setdefault(path, len(numbers))
        span.event["cat"] = "python_function"
        span.event["name"] = span.name
        span.event["args"] = span.event.get("args", {}) | {
            "Python id": number,
            "Python parent id": numbers[path[:-1]],
            "Python module id": number,
        }


def write(trace: dict[str, Any], path: Path) -> None:
    """Compressed; the same trace gives the same bytes."""
    text = json.dumps(trace, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), _LEVEL, mtime=0))
