"""The suites: name → lazily imported ``run(setting) -> list of figures``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcompiler.bench.harness import Figure, Setting

SUITES = ("compilation", "weight_dynamics")


def get(name: str) -> Callable[[Setting], list[Figure]]:
    """The suite of this name; ``name`` must be in ``SUITES``."""
    run: Callable[[Setting], list[Figure]] = import_module(f"pcompiler.bench.suites.{name}").run
    return run
