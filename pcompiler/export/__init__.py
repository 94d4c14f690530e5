"""What an artifact can be written as for other programs: name → lazily imported exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcompiler.registry import load

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
    exporter: Exporter = load("export", name, EXPORTS, __name__, "EXPORTER")
    return exporter
