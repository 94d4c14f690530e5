"""Benchmarks of pcompiler itself, beside the reference figures and a baseline of the same run.

    from pcompiler.bench import run

    for figure in run("storage_performance", device="cpu", quick=True).figures:
        print(figure.name, figure.value, figure.unit)

Importing this package imports no torch; the first use of a name does.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcompiler.bench.harness import Figure
    from pcompiler.bench.runs import Run, run

ROOT = Path(__file__).resolve().parents[2]  # the checkout, where there is one
_HOMES = {
    "Figure": "pcompiler.bench.harness",
    "Run": "pcompiler.bench.runs",
    "run": "pcompiler.bench.runs",
}
__all__ = ["ROOT", "Figure", "Run", "run"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        raise AttributeError(f"module 'pcompiler.bench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
