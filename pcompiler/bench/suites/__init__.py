"""The suites: name → lazily imported ``run(setting) -> list of figures``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pcompiler.registry import load

if TYPE_CHECKING:
    from pcompiler.bench.harness import Figure, Setting

SUITES = (
    "compilation",
    "compression_performance",
    "embedding_generation",
    "kernels",
    "production_simulation",
    "storage_performance",
    "weight_dynamics",
)


def get(name: str) -> Callable[[Setting], list[Figure]]:
    """The suite of this name.

    Raises:
        ConfigError: no such suite; lists those there are.
    """
    run: Callable[[Setting], list[Figure]] = load("suite", name, SUITES, __name__, "run")
    return run
