"""One RocksDB for everything that persists; raw bytes, one column family for each kind of record.

    artifacts   id → header record
    tensors     id → body
    prompts     content hash → source text
    probes      content hash → JSON lines

What belongs together is written in one batch. A commit is in the write-ahead log before it is
acknowledged: it survives a killed process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import rocksdict as rocks

from pcompiler.closing import Closing
from pcompiler.errors import (
    DamageError,
    InputError,
    NotFoundError,
    PcompilerError,
    StoreUnavailable,
)
from pcompiler.store import journal
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.key import content_hash

FAMILIES = ("artifacts", "tensors", "prompts", "probes")
BLOCK_CACHE_BYTES = 256 * 2**20  # a handful of exact caches stay hot
_ID = re.compile(r"[0-9a-f]{4,24}")


def holds_store(path: Path) -> bool:
    """Whether there is a store in this folder.

    Raises:
        DamageError: there was one, and RocksDB would begin anew over what is left of it.
    """
    if (path / "CURRENT").exists():
        return True
    if any((*path.glob("*.sst"), *path.glob("*.log"))):
        raise DamageError(f"the store {path} is damaged: its file CURRENT is missing.")
    return False


class Store(Closing):
    """A store of artifacts. Use as a context manager; one writer, any number of readers.

    Args:
        path: the store's folder; made on first write access.
        read_only: open beside a writer, as a frozen view.

    Raises:
        StoreUnavailable: locked by another writer, not writable, or no store to read.
        DamageError: RocksDB finds its own files damaged.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        if not holds_store(path) and read_only:
            raise StoreUnavailable(f"there is no store at {path}; compile a prompt first.")
        access = (
            rocks.AccessType.read_only(error_if_log_file_exist=False)
            if read_only
            else rocks.AccessType.read_write()
        )
        families = {name: _options(compress=name != "tensors") for name in FAMILIES}
        with self._errors():
            if not read_only:
                path.mkdir(parents=True, exist_ok=True)
            journal.check(path)
            self._db: Any = rocks.Rdict(
                str(path), _options(), column_families=families, access_type=access
            )
            self._families: Any = {name: self._db.get_column_family(name) for name in FAMILIES}

    def close(self) -> None:
        """Let go of the files and the lock; the lock lasts while a family object lives."""
        if self._db is not None:
            self._families.clear()
            self._db.close()
            self._db = None

    def put(self, artifact: Artifact, source: str, probes: str, fitting: str = "") -> None:
        """Store an artifact with the prompt and probes that it came from, all or nothing.

        Args:
            artifact: what to store.
            source: the prompt.
            probes: held-out probes, as JSON lines.
            fitting: the probes that it was fitted on, if it was.

        Raises:
            StoreUnavailable: the disk is full or not writable; the store is as it was.
        """
        header = artifact.header
        assert content_hash(source) == header.prompt_hash, "the prompt that was compiled"
        assert content_hash(probes) == header.probes_hash, "the probes that were measured"
        key = header.id.encode()
        lists = [text for text in (probes, fitting) if text]
        self._write(
            [
                ("tensors", key, artifact.body),
                ("prompts", header.prompt_hash.encode(), source.encode()),
                *(("probes", content_hash(text).encode(), text.encode()) for text in lists),
                ("artifacts", key, header.record()),
            ]
        )

    def annotate(self, header: Header) -> None:
        """Replace the header of an artifact that is here, for what is known only afterwards."""
        self._write([("artifacts", header.id.encode(), header.record())])

    def delete(self, artifact_id: str) -> None:
        """Remove an artifact; its prompt and probes stay for others that share them."""
        key = self.header(artifact_id).id.encode()
        self._write([("artifacts", key, None), ("tensors", key, None)])

    def find(self, artifact_id: str) -> Header | None:
        """The header with exactly this id, or nothing."""
        record = self._get("artifacts", artifact_id)
        return None if record is None else self._parse(record, artifact_id)

    def header(self, name: str) -> Header:
        """The header with this id, or the only one whose id begins so.

        Raises:
            NotFoundError: none, or several.
            DamageError: its record is damaged.
        """
        if not _ID.fullmatch(name):
            raise NotFoundError(
                f"{name!r} is neither a file nor an artifact's id (4 to 24 hex digits); "
                "see 'pcompiler store list'."
            )
        found = [key for key, _ in self._records("artifacts", name)]
        if len(found) != 1:
            what = f"{len(found)} artifacts begin with" if found else "no artifact has the id"
            raise NotFoundError(f"{what} {name!r} in {self.path}; see 'pcompiler store list'.")
        return self._parse(self._get("artifacts", found[0]) or b"", found[0])

    def get(self, name: str) -> Artifact:
        """The artifact with this id or beginning of one; see ``header`` for what it raises."""
        header = self.header(name)
        body = self._get("tensors", header.id)
        if body is None:
            raise DamageError(f"artifact {header.id} in {self.path} has lost its tensors.")
        return Artifact(header, body)

    def source(self, prompt_hash: str) -> str | None:
        """The prompt with this content hash, if it is here."""
        return self._text("prompts", prompt_hash)

    def probes(self, probes_hash: str) -> str | None:
        """The probe list with this content hash, if it is here."""
        return self._text("probes", probes_hash)

    def headers(self) -> Iterator[Header]:
        """All headers, in order of id; no tensors are read."""
        for key, record in self._records("artifacts"):
            yield self._parse(record, key)

    def _text(self, family: str, key: str) -> str | None:
        data = self._get(family, key)
        if data is None:
            return None
        text = data.decode(errors="replace")
        if content_hash(text) != key:
            raise DamageError(f"record {key} of {family} in {self.path} is damaged.")
        return text

    def _parse(self, record: bytes, key: str) -> Header:
        try:
            header, _ = Header.parse(record)
        except PcompilerError as e:
            raise type(e)(f"artifact {key} in {self.path}: {e}") from None
        return header

    def _get(self, family: str, key: str) -> bytes | None:
        with self._errors():
            value: bytes | None = self._families[family].get(key.encode())
        return value

    def _records(self, family: str, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        start = prefix.encode()
        with self._errors():
            cursor = self._families[family].iter()
            cursor.seek(start) if start else cursor.seek_to_first()
            while cursor.valid() and cursor.key().startswith(start):
                yield cursor.key().decode(), cursor.value()
                cursor.next()
            cursor.status()  # a scan over damaged files just ends; only this says so

    def _write(self, changes: list[tuple[str, bytes, bytes | None]]) -> None:
        with self._errors():
            batch = rocks.WriteBatch(raw_mode=True)
            for family, key, value in changes:
                handle = self._db.get_column_family_handle(family)
                if value is None:
                    batch.delete(key, handle)
                else:
                    batch.put(key, value, handle)
            self._db.write(batch)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """RocksDB raises bare exceptions: tell by their text what the user can do."""
        try:
            yield
        except Exception as e:
            if type(e) is not Exception and not isinstance(e, OSError):
                raise  # ours, or a mistake in the code: not RocksDB's
            raise _translated(e, self.path) from e


def _translated(error: Exception, path: Path) -> PcompilerError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "lock hold" in text or "/LOCK" in text:
        return StoreUnavailable(
            f"another process is writing to the store {path}; wait for it, or use another --store."
        )
    if "No space left" in text:
        return StoreUnavailable(
            f"the disk of the store {path} is full; what was stored before is safe. "
            "Free some space, or use another --store."
        )
    if "Read-only" in text or "Permission denied" in text:
        return StoreUnavailable(
            f"the store {path} is not writable, which it has to be even to be read; "
            "use another --store, or copy it to a writable folder."
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return InputError(f"the store {path} is not a folder; use another --store.")
    damaged = "Corruption" in text or "checksum" in text or (path / "CURRENT").exists()
    if damaged:
        return DamageError(f"the store {path} is damaged: {text}")
    return StoreUnavailable(f"cannot open the store {path}: {text}")


def _options(compress: bool = True) -> Any:  # noqa: ANN401 - rocksdict has no stubs for it
    options = rocks.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    # Raises on a damaged log, where the default silently drops what follows the damage;
    # a torn tail, which a killed process leaves, still opens.
    options.set_wal_recovery_mode(rocks.DBRecoveryMode.tolerate_corrupted_tail_records())
    kind = rocks.DBCompressionType.zstd() if compress else rocks.DBCompressionType.none()
    options.set_compression_type(kind)
    table = rocks.BlockBasedOptions()
    table.set_block_cache(_block_cache())
    options.set_block_based_table_factory(table)
    options.set_keep_log_file_num(2)
    return options


@lru_cache(maxsize=1)
def _block_cache() -> Any:  # noqa: ANN401
    return rocks.Cache(BLOCK_CACHE_BYTES)  # one for the process, shared by its stores
