"""RocksDB as we use it: raw bytes in families, one writer, readers beside it, errors in words."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import rocksdict as rocks

from pcompiler.closing import Closing
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, PcompilerError, StoreUnavailable
from pcompiler.store import journal
from pcompiler.store.lock import Lock
from pcompiler.store.rocksdb import options, synced, translated, translating

Access = Literal["write", "read", "follow"]
Change = tuple[str, bytes, bytes | None]  # family, key, value; None: to be deleted
COMPRESSED = ("tensors",)  # families whose records are compressed before they come here
ROOM_BYTES = 2**22  # on the disk, to open a store for writing
ATTEMPTS = 5  # to open beside a writer, who may just be replacing a file


def holds_store(path: Path) -> bool:
    """Whether there is a store in this folder.

    Raises:
        DamageError: there was one, and RocksDB would begin anew over what is left of it.
    """
    if (path / "CURRENT").exists():
        return True
    if any((*path.glob("*.sst"), *path.glob("*.log"))):
        raise DamageError(
            f"the store {path} is damaged: its file CURRENT is missing. "
            "'pcompiler store check' sets the damage aside."
        )
    return False


class Engine(Closing):
    """An open RocksDB. May be shared by threads.

    Args:
        path: its folder; made for a writer.
        families: that a writer makes where they are missing.
        access: write; read: a frozen view beside any writer; follow: a view that ``catch_up``
            brings up to date.
        settings: of the [store] section.

    Attributes:
        handles: of each family that is there.
        stuck: whether a write has failed, so that the files have to be opened anew.

    Raises:
        StoreUnavailable: locked by another writer, not writable, or no store to read.
        DamageError: RocksDB finds its own files damaged.
    """

    def __init__(
        self, path: Path, families: Iterable[str], access: Access, settings: StoreConfig
    ) -> None:
        self.path, self.access = path, access
        self._made, self._settings = tuple(families), settings
        self.stuck = False
        self._lock: Lock | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._db: Any = None
        self.handles: dict[str, Any] = {}
        if not holds_store(path) and access != "write":
            raise StoreUnavailable(f"there is no store at {path}; compile a prompt first.")
        try:
            with translating(path):
                if access == "write":
                    path.mkdir(parents=True, exist_ok=True)
                    self._lock = Lock(path)
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        settings = self._settings
        for attempt in range(ATTEMPTS):
            journal.check(self.path)
            try:
                there = set(rocks.Rdict.list_cf(str(self.path))) if holds_store(self.path) else ()
                names = {*there, *(self._made if self.access == "write" else ())} - {"default"}
                made = {name: options(settings, name not in COMPRESSED) for name in names}
                self._db = rocks.Rdict(
                    str(self.path), options(settings), made, access_type=self._access_type()
                )
                break
            except Exception as e:
                # A writer may have replaced the files that we were about to open.
                last = self.access == "write" or attempt + 1 == ATTEMPTS
                if last or "No such file" not in str(e):
                    raise
        if self.access == "write":
            journal.remember(self.path)
        self._write_options = synced(settings)
        for name in names:
            self.handles[name] = self._db.get_column_family(name)
            self.handles[name].set_write_options(self._write_options)

    def _access_type(self) -> Any:  # noqa: ANN401 - rocksdict has no stubs for it
        if self.access == "write":
            return rocks.AccessType.read_write()
        if self.access == "read":
            return rocks.AccessType.read_only(error_if_log_file_exist=False)
        self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="pcompiler-follow-")
        return rocks.AccessType.secondary(self._scratch.name)

    def close(self) -> None:
        """Let go of the files and the lock; RocksDB's lasts while a handle lives."""
        self._close_files()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _close_files(self) -> None:
        if self._db is None:
            return
        if self.access == "write":
            # What is in tables outlives a damaged MANIFEST. A full disk is no loss: the log has
            # it all.
            with suppress(PcompilerError):
                self.flush()
            journal.remember(self.path)
        self.handles.clear()
        with suppress(Exception):  # it flushes once more, which may fail for the same reason
            self._db.close()
        self._db = None

    def check_room(self) -> None:
        """Before files that can be read are closed: whether they can be opened to be written.

        Raises:
            StoreUnavailable: the disk is full.
        """
        if shutil.disk_usage(self.path).free < ROOM_BYTES:
            raise translated(Exception("No space left"), self.path)

    def reopen(self) -> None:
        """Open the files anew; the handles are others then.

        Raises:
            StoreUnavailable: what was in the way still is.
        """
        self._close_files()
        with translating(self.path):
            self._open()
        self.stuck = False

    def failed(self, error: Exception) -> Exception:
        """What to raise for an error of a write, after which RocksDB refuses all others."""
        raised = translated(error, self.path)
        self.stuck = isinstance(raised, StoreUnavailable)
        return raised

    def get(self, family: str, key: bytes) -> bytes | None:
        """A record as it is stored."""
        if family not in self.handles:  # a store of before there was this family, to be read
            return None
        with translating(self.path):
            value: bytes | None = self.handles[family].get(key)
        return value

    def scan(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Records in order of key, from ``start`` on.

        Raises:
            DamageError: a part of a file that cannot be read; the records before it were given.
        """
        if self._db is None:
            raise StoreUnavailable(f"the store {self.path} is closed.")
        if family not in self.handles:
            return
        with translating(self.path):
            cursor = self.handles[family].iter()
            cursor.seek(start) if start else cursor.seek_to_first()
        valid, key, value, advance = cursor.valid, cursor.key, cursor.value, cursor.next
        while valid():
            yield key(), value()
            advance()
        with translating(self.path):
            cursor.status()  # a scan over damaged files just ends; only this says so

    def write(
        self, changes: Iterable[Change], seal: Callable[[bytes, bytes], bytes] | None = None
    ) -> None:
        """All of the changes, or none.

        Args:
            changes: in the order in which they are to be made.
            seal: makes records of keys and values; without it, values are records already.
        """
        batch = rocks.WriteBatch(raw_mode=True)
        put, last, column = batch.put, "", None
        try:
            for family, key, value in changes:
                if family != last:
                    last, column = family, self._db.get_column_family_handle(family)
                if value is None:
                    batch.delete(key, column)
                else:
                    put(key, value if seal is None else seal(key, value), column)
            self._db.write(batch, self._write_options)
        except Exception as e:
            raise self.failed(e) from e
        finally:
            column = None  # an error that someone keeps must not keep RocksDB open

    def catch_up(self) -> None:
        """Of a follower: see what the writer has written since."""
        with translating(self.path):
            self._db.try_catch_up_with_primary()

    def compact(self) -> None:
        """Give space back that deleted and replaced records still take; squeeze all of it."""
        thorough = rocks.CompactOptions()
        # Without it, tables that overlap nothing are moved down as they are, squeezed little.
        thorough.set_bottommost_level_compaction(rocks.BottommostLevelCompaction.force_optimized())
        with translating(self.path):
            for handle in self.handles.values():
                handle.flush()
                handle.compact_range(None, None, thorough)

    def flush(self) -> None:
        """Have all that was written in files that are on the disk."""
        with translating(self.path):
            for handle in self.handles.values():
                handle.flush()
        if os.name == "posix":
            folder = os.open(self.path, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
