"""What a prompt can be compiled to: name → lazily imported target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcompiler.registry import load

if TYPE_CHECKING:
    from pcompiler.targets.base import Target

TARGETS = {
    "kv": "KV cache: exact in 16 bit, or compacted with --factor",
    "text": "the prompt with less text, nothing else lost",
    "weights": "low-rank weight patch, no tokens",
    "hybrid": "compacted KV cache and its companion patch",
}


def get(name: str) -> Target:
    """The target of this name.

    Raises:
        ConfigError: no such target; lists those there are.
    """
    target: Target = load("target", name, TARGETS, __name__, "TARGET")
    return target
