"""Reading around damaged parts of files, and copies of stores that hold only what is whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import rocksdict as rocks

from pcompiler import progress
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, StoreUnavailable
from pcompiler.store.engine import Change, Engine
from pcompiler.store.format import META, bring_up_to_date, check_readable, is_marked
from pcompiler.store.lock import Lock
from pcompiler.store.records import FAMILIES, QUARANTINE, SEALED
from pcompiler.store.rocksdb import options, translating
from pcompiler.store.seal import seal, unseal

LONGEST_KEY = 136  # bytes; names have 129 at most, and a gap's end is looked for among keys
_BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Damage:
    """Something that is not what was written.

    Attributes:
        where: a family, or "files".
        raw: key of the record, or of the last whole one before an unreadable stretch.
        what: in words.
        record: its bytes, where there are any to be set aside.
        unreadable: it is in the files, and more than one record.
    """

    where: str
    raw: bytes
    what: str
    record: bytes | None = field(default=None, repr=False)
    unreadable: bool = False

    @property
    def key(self) -> str:
        """The key for people: as text where it is one."""
        text = self.raw.decode(errors="replace")
        return text if text.isprintable() and "\ufffd" not in text else self.raw.hex()


Found = tuple[bytes, bytes] | Damage


def read_around(engine: Engine, family: str) -> Iterator[Found]:
    """All records of a family that can be read, as they are stored, and what cannot be.

    A damaged block of a file ends a scan. What comes behind it is found by bisection over keys:
    to seek a key fails as long as the key is in the block, and no longer behind it.
    """
    start = b""
    upto: bytes | None = b""
    while upto is not None:
        start = upto
        try:
            for key, record in engine.scan(family, start):
                yield key, record
                start = key + b"\0"
            upto = None
        except DamageError as e:
            what = f"records behind this key cannot be read: {e}"
            yield Damage(family, start[:-1], what, unreadable=True)
            upto = _behind(engine, family, start)


def _behind(engine: Engine, family: str, start: bytes) -> bytes | None:
    """The least key from ``start`` on that can be sought; None where there is no such key."""
    low: int = int.from_bytes(start.ljust(LONGEST_KEY, b"\0"), "big")
    high: int = 2 ** (8 * LONGEST_KEY) - 1
    if not _can_seek(engine, family, high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _can_seek(engine, family, middle) else (middle, high)
    return high.to_bytes(LONGEST_KEY, "big")


def _can_seek(engine: Engine, family: str, key: int) -> bool:
    try:
        next(engine.scan(family, key.to_bytes(LONGEST_KEY, "big")), None)
    except DamageError:
        return False
    return True


def copy(
    source: Engine, target: Engine, damaged: Callable[[Damage], None], marked: bool = True
) -> int:
    """Copy all records whose checksums match; returns how many.

    Args:
        source: an open store.
        target: an empty store, open for writing.
        damaged: called with what could not be copied; may raise. A record that is there but
            not whole goes to the target's quarantine.
        marked: the source is known to be of the newest format; of another, records without a
            checksum are given one.
    """
    copied = 0
    with progress.bar(0, "copying the store", "record") as shown:
        for family in (*SEALED, QUARANTINE):
            changes, size = list[Change](), 0
            for found in read_around(source, family):
                change = _checked(family, found, marked, damaged)
                if change is None:
                    continue
                changes.append(change)
                size += len(change[2] or b"")
                copied += change[0] == family
                shown.update(1)
                if size >= _BATCH_BYTES:
                    target.write(changes)
                    changes, size = [], 0
            target.write(changes)
    target.flush()
    return copied


def _checked(
    family: str, found: Found, marked: bool, damaged: Callable[[Damage], None]
) -> Change | None:
    if isinstance(found, Damage):
        damaged(found)
        return None
    key, record = found
    try:
        if family != QUARANTINE:
            unseal(key, record)
    except DamageError as e:
        if not marked:  # of before there were checksums
            return family, key, seal(key, record)
        damaged(Damage(family, key, str(e), record))
        return QUARANTINE, quarantine_key(family, key), record
    return family, key, record


def quarantine_key(family: str, key: bytes) -> bytes:
    """Where a damaged record is kept: the bytes as they were found."""
    return f"{family}/".encode() + key


def rebuild(folder: Path, settings: StoreConfig, damaged: Callable[[Damage], None]) -> Path:
    """Replace a damaged store by a copy of what is whole in it.

    Returns:
        where the damaged one is kept, as it was.

    Raises:
        StoreUnavailable: another process writes to it; nothing has changed.
        MismatchError: it has a newer format; nothing has changed.
    """
    draft, mended = (folder.with_name(f"{folder.name}.{what}") for what in ("draft", "mended"))
    lock = Lock(folder)
    try:
        for leftover in (draft, mended):
            shutil.rmtree(leftover, ignore_errors=True)
        with _open_somehow(folder, draft, settings, damaged) as source:
            marked = _is_marked(source, damaged)
            with Engine(mended, FAMILIES, "write", settings) as target:
                bring_up_to_date(target)
                copy(source, target, damaged, marked)
        return put_in_place(folder, mended) or folder
    finally:
        lock.release()
        for leftover in (draft, mended):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_marked(source: Engine, damaged: Callable[[Damage], None]) -> bool:
    """Whether it says that it is of the newest format. Raises MismatchError: of a newer one."""
    try:
        check_readable(source)
        return is_marked(source)
    except DamageError as e:
        damaged(Damage(META, b"format", str(e), unreadable=True))
        return False


def _open_somehow(
    folder: Path, draft: Path, settings: StoreConfig, damaged: Callable[[Damage], None]
) -> Engine:
    try:
        return Engine(folder, FAMILIES, "read", settings)
    except (DamageError, StoreUnavailable) as e:
        damaged(Damage("files", b"", str(e), unreadable=True))
        return _repaired(folder, draft, settings)


def _repaired(folder: Path, draft: Path, settings: StoreConfig) -> Engine:
    """A copy whose list of files RocksDB has made anew from the files that it can read."""
    shutil.copytree(folder, draft, copy_function=_link_tables)
    with translating(draft):
        rocks.Rdict.repair(str(draft), options(settings))
    return Engine(draft, FAMILIES, "write", settings)


def _link_tables(source: str, target: str) -> None:
    """Tables are never written to again: a second name for them is as good as a copy."""
    if source.endswith(".sst"):
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or a system without links
            pass
    shutil.copy2(source, target)


def put_in_place(folder: Path, new: Path) -> Path | None:
    """Put a store in another's place; returns where that one is kept, if there was one.

    A process killed between the two renames leaves ``folder`` missing and both others whole.
    """
    kept = None
    if folder.exists():
        kept = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        while kept.exists():
            kept = kept.with_name(f"{kept.name}+")
        folder.rename(kept)
    new.rename(folder)
    return kept
