"""One RocksDB for everything that persists; raw bytes, one column family for each kind of record.

    artifacts     id → header record
    tensors       id → body
    prompts       content hash → source text
    probes        content hash → JSON lines
    dictionaries  id → dictionary that prompts and probes may be compressed with; current → id

What belongs together is written in one batch. A commit is in the write-ahead log before it is
acknowledged: it survives a killed process.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rocksdict as rocks

from pcompiler.closing import Closing
from pcompiler.codec.dictionary import Dictionary
from pcompiler.errors import DamageError, NotFoundError, PcompilerError, StoreUnavailable
from pcompiler.store import journal
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.key import content_hash
from pcompiler.store.rocksdb import options, translated
from pcompiler.store.texts import CURRENT, Texts, needs

TEXTS = ("prompts", "probes")
FAMILIES = ("artifacts", "tensors", *TEXTS, "dictionaries")
MAX_DICTIONARIES = 64
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
        with self._errors():
            if not read_only:
                path.mkdir(parents=True, exist_ok=True)
            journal.check(path)
            names = _families(path, read_only)
            families = {name: options(compress=name != "tensors") for name in names}
            self._db: Any = rocks.Rdict(
                str(path), options(), column_families=families, access_type=access
            )
            self._families: Any = {name: self._db.get_column_family(name) for name in names}
        self._texts = Texts(lambda key: self._get("dictionaries", key))

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
        lists, encode = [text for text in (probes, fitting) if text], self._texts.encode
        self._write(
            [
                ("tensors", key, artifact.body),
                ("prompts", header.prompt_hash.encode(), encode(source)),
                *(("probes", content_hash(text).encode(), encode(text)) for text in lists),
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

    def texts(self) -> Iterator[str]:
        """All prompts and probe lists. Raises DamageError, as reading one of them does."""
        for family in TEXTS:
            for key, record in self._records(family):
                yield self._read(family, key, record)

    def dictionary(self) -> Dictionary | None:
        """The dictionary that prompts and probes are stored with, if any."""
        return self._texts.current()

    def dictionaries(self) -> list[tuple[Dictionary, int]]:
        """All dictionaries, oldest first, and how many records cannot be read without each."""
        uses = Counter(needs(record) for f in TEXTS for _, record in self._records(f))
        keys = [key for key, _ in self._records("dictionaries") if key != CURRENT]
        found = sorted(map(self._texts.dictionary, keys), key=lambda d: (d.created, d.version))
        return [(dictionary, uses[dictionary.id]) for dictionary in found]

    def add_dictionary(self, dictionary: Dictionary) -> Dictionary:
        """Store prompts and probes with this dictionary from now on.

        A store has 64 dictionaries at most: the oldest that no record needs makes room.

        Returns:
            the dictionary as the store has it: one that was here already stays as it is.

        Raises:
            StoreUnavailable: there are 64, and records need them all.
        """
        known, key = self.dictionaries(), str(dictionary.id).encode()
        here = next((d for d, _ in known if d.id == dictionary.id), None)
        changes: list[tuple[str, bytes, bytes | None]] = [
            ("dictionaries", CURRENT.encode(), key),
        ]
        if here is None:
            changes.append(("dictionaries", key, dictionary.encode()))
            if len(known) >= MAX_DICTIONARIES:
                changes.append(("dictionaries", str(self._unused(known)).encode(), None))
        self._write(changes)
        return here or dictionary

    def _unused(self, known: list[tuple[Dictionary, int]]) -> int:
        """Id of the oldest dictionary that no record needs."""
        for dictionary, uses in known:
            if not uses:
                return dictionary.id
        raise StoreUnavailable(
            f"the store {self.path} has {len(known)} dictionaries, and its prompts and probes "
            "need them all; use another --store."
        )

    def _text(self, family: str, key: str) -> str | None:
        record = self._get(family, key)
        return None if record is None else self._read(family, key, record)

    def _read(self, family: str, key: str, record: bytes) -> str:
        try:
            text = self._texts.decode(record)
        except PcompilerError as e:
            raise DamageError(f"record {key} of {family} in {self.path}: {e}") from None
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
        if family not in self._families:  # a store of before there was this family, to be read
            return None
        with self._errors():
            value: bytes | None = self._families[family].get(key.encode())
        return value

    def _records(self, family: str, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        if family not in self._families:
            return
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
        """RocksDB's errors as ours."""
        try:
            yield
        except Exception as e:
            if type(e) is not Exception and not isinstance(e, OSError):
                raise  # ours, or a mistake in the code: not RocksDB's
            raise translated(e, self.path) from e


def _families(path: Path, read_only: bool) -> set[str]:
    """Ours, and those of a newer version; a reader can open only what is there."""
    there = set(rocks.Rdict.list_cf(str(path))) if holds_store(path) else set()
    return (there if read_only else there | set(FAMILIES)) - {"default"}
