"""What an artifact can be written as for other programs: name → lazily imported exporter."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pcompiler.errors import ConfigError

if TYPE_CHECKING:
    from pcompiler.export.base import Exporter

EXPORTS = {
    "peft": "a LoRA folder",
    "transformers": "a cache and the code that generates with it",
    "messages": "the remaining text as JSON",
}
TAKES = {
    "peft": ("weights", "hybrid"),
    "transformers": ("kv", "hybrid"),
    "messages": ("text",),
}


def get(name: str) -> Exporter:
    """The exporter of this name.

    Raises:
        ConfigError: no such exporter; lists those there are.
    """
    if name not in EXPORTS:
        raise ConfigError(f"cannot export to {name!r}; choose one of: {', '.join(EXPORTS)}.")
    exporter: Exporter = import_module(f"pcompiler.export.{name}").EXPORTER
    return exporter
