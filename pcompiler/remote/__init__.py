"""Artifacts that machines share: an object store behind the local one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcompiler.store.db import Store

if TYPE_CHECKING:
    from pcompiler.config import StoreConfig


def opened(settings: StoreConfig) -> Store:
    """The store that the settings name, open for writing: with its remote, if it has one.

    Raises:
        ConfigError: a remote that cannot be, or obstore is missing; see also ``Store``.
    """
    if not settings.remote:
        return Store(settings.folder, settings=settings)
    from pcompiler.remote.shared import Shared

    return Shared(settings.folder, settings)
