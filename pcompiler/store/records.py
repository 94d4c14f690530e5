"""Records that are what was written, or an error: families of checksummed keys and values.

    artifacts     id → header record
    tensors       id → body
    prompts       content hash → source text
    probes        content hash → JSON lines
    dictionaries  id → dictionary that prompts and probes may be compressed with; current → id
    embeddings    encoder and content hash → vector
    drafts        id → a prompt compiled without a language model
    names         name → artifacts that it has pointed at
    uploads       id → which remote waits for it, since when, and why
    quarantine    family/key → a record that was damaged, as it was found
    metadata      format → version

Every record carries a checksum of its own. What belongs together is written in one batch. A
write is in the write-ahead log before it is acknowledged: it survives a killed process, and with
``durability = "power"``, which waits for the disk, a power cut.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_digest, xxh3_64_intdigest

from pcompiler import meter
from pcompiler.closing import Closing
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError
from pcompiler.store.engine import Access, Change, Engine
from pcompiler.store.format import META, bring_up_to_date
from pcompiler.store.rocksdb import translated
from pcompiler.store.seal import SEAL_BYTES, seal, unseal
from pcompiler.store.tally import Tally

SEALED = (
    *("artifacts", "tensors", "prompts", "probes", "dictionaries"),
    *("embeddings", "names", "drafts", "uploads"),
)
QUARANTINE = "quarantine"
FAMILIES = (*SEALED, QUARANTINE, META)


class Records(Closing):
    """The records of a store; see ``Engine`` for the arguments and what opening raises.

    May be shared by threads.
    """

    def __init__(
        self, path: Path, access: Access = "write", settings: StoreConfig | None = None
    ) -> None:
        self.path, self.access = path, access
        self.engine = Engine(path, FAMILIES, access, settings or StoreConfig())
        self._reopening = threading.Lock()
        self._tally = Tally(self.engine, FAMILIES)
        try:
            bring_up_to_date(self.engine)
            self.listen()
            meter.watch(self)
        except BaseException:
            self.close()
            raise

    def listen(self) -> None:
        """Count, or do not: see ``meter.Source``."""
        handles = self.engine.handles.items()
        self._gets: dict[str, Any] = {name: handle.get for name, handle in handles}
        self._puts: dict[str, Any] = {name: handle.put for name, handle in handles}
        self._many = self._gets
        if meter.listener is not None:
            count = self._tally
            self._many = {name: count.many(name, get) for name, get in self._gets.items()}
            self._gets = {name: count.get(name, get) for name, get in self._gets.items()}
            self._puts = {name: count.put(name, put) for name, put in self._puts.items()}

    def report(self) -> None:
        """See ``meter.Source``."""
        self._tally.report()

    def close(self) -> None:
        """Let go of the files and the lock; closing twice does nothing."""
        if meter.listener is not None:
            self._tally.report()
        self._gets = self._puts = self._many = {}  # RocksDB's lock lasts while they live
        self.engine.close()

    def get(self, family: str, key: bytes) -> bytes | None:
        """The value of a key, if there is one.

        Raises:
            DamageError: it is not what was written.
        """
        gets = self._gets
        try:
            record = gets[family](key)
            if record is None:
                return None
            # ``unseal``, written out: the call would be 2 % of a get.
            value: bytes = record[:-SEAL_BYTES]
            if xxh3_64_digest(value, xxh3_64_intdigest(key)) == record[-SEAL_BYTES:]:
                return value
            return unseal(key, record)
        except DamageError as e:
            raise self._damage(family, key, e) from None
        except Exception as e:
            if family not in gets:
                return self.get(family, key) if self._is_back(family) else None
            raise translated(e, self.path) from e

    def get_whole(self, family: str, key: bytes) -> bytes | None:
        """The value of a key; none as well where it is damaged."""
        try:
            return self.get(family, key)
        except DamageError:
            return None

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys at once, in their order."""
        gets = self._many
        if family not in gets:
            return [self.get(family, key) for key in keys]
        try:
            found = gets[family](list(keys))
        except Exception as e:
            raise translated(e, self.path) from e
        pairs = zip(keys, found, strict=True)
        try:
            return [None if record is None else unseal(key, record) for key, record in pairs]
        except DamageError:
            return [self.get(family, key) for key in keys]  # says which

    def scan(
        self, family: str, prefix: bytes = b"", start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin so, in order, and their values; from ``start`` on."""
        records = self.engine.scan(family, max(prefix, start))
        if meter.listener is not None:
            records = self._tally.scan(family, records)
        for key, record in records:
            if not key.startswith(prefix):
                return
            try:
                yield key, unseal(key, record)
            except DamageError as e:
                raise self._damage(family, key, e) from None

    def put(self, family: str, key: bytes, value: bytes) -> None:
        """Write one record; what it replaces is gone."""
        if self.engine.stuck:
            self._reopen()
        try:
            self._puts[family](key, seal(key, value))
        except Exception as e:
            raise self.engine.failed(e) from e

    def write(self, changes: Iterable[Change]) -> None:
        """All of the changes, or none.

        Raises:
            StoreUnavailable: the disk is full or not writable; the store is as it was.
        """
        if self.engine.stuck:
            self._reopen()
        if meter.listener is None:
            self.engine.write(changes, seal)
        else:
            self._tally.write(changes)

    def catch_up(self) -> None:
        """Of a follower: see what the writer has written since."""
        with self._tally.timed("catch_up"):
            self.engine.catch_up()

    def _reopen(self) -> None:
        """After a write that failed, a full disk say, RocksDB refuses all others."""
        with self._reopening:
            if self.engine.stuck:
                self.engine.check_room()
                self._gets = self._puts = self._many = {}
                self.engine.reopen()
                self.listen()

    def _is_back(self, family: str) -> bool:
        """Of a family that was not there: whether it is now, or is none of this older store's."""
        self._reopen()
        if family not in self._gets and family not in FAMILIES:
            raise KeyError(family)
        return family in self._gets

    def _damage(self, family: str, key: bytes, error: DamageError) -> DamageError:
        return DamageError(
            f"record {key.decode(errors='replace')} of {family} in {self.path} is damaged: "
            f"{error} 'pcompiler store check' sets it aside."
        )
