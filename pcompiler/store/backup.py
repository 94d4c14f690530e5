"""Backups: verified copies of a store, taken while others write to it, and put back."""

from __future__ import annotations

import shutil
from pathlib import Path

from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, StoreUnavailable
from pcompiler.store.engine import holds_store
from pcompiler.store.lock import Lock
from pcompiler.store.records import Records
from pcompiler.store.rocksdb import uncached
from pcompiler.store.salvage import Damage, copy, put_in_place


def backup(source: Path, target: Path, settings: StoreConfig) -> int:
    """Copy a store, beside any writer, as it is now; every checksum is verified on the way.

    Args:
        source: the store's folder.
        target: a folder that is new or empty; it is there when the copy is whole, or not at all.
        settings: of the [store] section.

    Returns:
        how many records it has.

    Raises:
        StoreUnavailable: no store, or a target that holds something; nothing was written.
        DamageError: the store is damaged; nothing was written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreUnavailable(f"{target} is not empty; give a folder that is new or empty.")
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with Records(source, "read", uncached(settings)) as records:
            target.parent.mkdir(parents=True, exist_ok=True)
            with Records(draft, "write", settings) as copied:
                count = copy(records.engine, copied.engine, _refuse)
        if target.exists():
            target.rmdir()
        draft.rename(target)
    except OSError as e:
        raise StoreUnavailable(f"cannot write the backup {target}: {e.strerror}.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return count


def _refuse(damage: Damage) -> None:
    raise DamageError(
        f"{damage.key} of {damage.where}: {damage.what} Nothing was written; "
        "run 'pcompiler store check' first."
    )


def restore(
    source: Path, target: Path, settings: StoreConfig, over: bool = False
) -> tuple[int, Path | None]:
    """Put a backup in a store's place; it is verified while it is copied.

    Args:
        source: the backup's folder.
        target: the store's.
        settings: of the [store] section.
        over: whether there may be a store already; it is kept beside.

    Returns:
        how many records it has, and where the store that was there is kept.

    Raises:
        StoreUnavailable: no backup, or a store that is in the way or being written.
        DamageError: the backup is damaged; nothing has changed.
    """
    if not over and target.exists() and any(target.iterdir()):
        raise StoreUnavailable(
            f"there is a store at {target}; give --replace to have the backup in its place "
            "(it is kept beside), or another --store."
        )
    fresh = target.with_name(f"{target.name}.restored")
    if not holds_store(source):
        raise StoreUnavailable(f"there is no backup at {source}.")
    if not target.exists():
        return backup(source, target, settings), None
    lock = Lock(target)
    try:
        return backup(source, fresh, settings), put_in_place(target, fresh)
    finally:
        lock.release()
        shutil.rmtree(fresh, ignore_errors=True)
