"""Registries: name → module that is imported when asked for. No torch."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any

from pcompiler.errors import ConfigError


def load(what: str, name: str, known: Collection[str], package: str, attribute: str) -> Any:  # noqa: ANN401
    """``attribute`` of the module ``package.name``.

    Raises:
        ConfigError: ``name`` is not among the known; lists those there are.
    """
    if name not in known:
        raise ConfigError(f"{what} {name!r} is not known; choose one of: {', '.join(known)}.")
    return getattr(import_module(f"{package}.{name}"), attribute)
