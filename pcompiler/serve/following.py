"""The store as those see it who follow its writer."""

from __future__ import annotations

from pathlib import Path

from pcompiler.config import StoreConfig
from pcompiler.errors import Gone, StoreUnavailable
from pcompiler.store.db import Store
from pcompiler.store.records import FAMILIES

NOT_YET = "the store is not there yet; come back in a moment."


def followed(folder: Path, settings: StoreConfig) -> Store:
    """The store, for reading what its writer writes.

    Raises:
        Gone: it is not there, or its writer is still making it.
    """
    try:
        store = Store(folder, "follow", settings)
    except StoreUnavailable as e:
        raise Gone(NOT_YET, 2.0) from e
    if not store.records.engine.handles.keys() >= set(FAMILIES):
        store.close()  # a follower never sees families that are made after it opened
        raise Gone(NOT_YET, 2.0)
    return store
