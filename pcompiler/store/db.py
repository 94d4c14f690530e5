"""The store: artifacts with the prompts and probes that they came from, and names for them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pcompiler.closing import Closing
from pcompiler.codec.dictionary import Dictionary
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, NotFoundError, PcompilerError, StoreUnavailable
from pcompiler.ranges import ranged
from pcompiler.store import space
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.drafts import Drafts
from pcompiler.store.engine import Access, Change, holds_store
from pcompiler.store.key import content_hash
from pcompiler.store.names import Names, full_name
from pcompiler.store.records import Records
from pcompiler.store.texts import TEXTS, Texts
from pcompiler.store.uses import Uses

__all__ = ["Store", "holds_store"]

_ID = re.compile(r"[0-9a-f]{4,24}")
Text = tuple[str, str]  # its family, and itself


class Store(Closing):
    """A store of artifacts. Use as a context manager; may be shared by threads.

    Args:
        path: the store's folder; made on first write access.
        access: write: one at a time; read: a frozen view, beside any writer; follow: a view that
            ``catch_up`` brings up to date.
        settings: how durable, how large and how fast it is to be.

    Attributes:
        records: what it is made of.
        names, drafts: what artifacts are called; prompts compiled without a language model.
        uses: when each artifact was last got.

    Raises:
        StoreUnavailable: locked by another writer, not writable, or no store to read.
        MismatchError: of a newer format, or of an older one and not to be written.
        DamageError: RocksDB finds its own files damaged.
    """

    def __init__(
        self, path: Path, access: Access = "write", settings: StoreConfig | None = None
    ) -> None:
        self.path, self.settings, self.uses = path, settings or StoreConfig(), Uses(path)
        self.records = Records(path, access, self.settings)
        self._texts = Texts(self.records)
        self.names, self.drafts = Names(self.records), Drafts(self, self._texts)
        # What is written along with an artifact that is new or changed, by its id.
        self.noted: Callable[[str], list[Change]] = lambda _: []
        self._changing = threading.RLock()  # what is read and then written is read by one at a time
        if access == "write":
            self.uses.fold()

    def close(self) -> None:
        """Let go of the files and the lock; closing twice does nothing."""
        self.records.close()

    def catch_up(self) -> None:
        """Of a store that is followed: see what its writer has written since."""
        self.records.catch_up()

    @ranged("store put")
    def put(self, artifact: Artifact, source: str, probes: str, fitting: str = "") -> None:
        """Store an artifact with the prompt and probes that it came from, all or nothing.

        With a limit (``max_bytes``) the artifacts not used for longest make room first.

        Args:
            artifact: what to store.
            source: the prompt.
            probes: held-out probes, as JSON lines.
            fitting: the probes that it was fitted on, if it was.

        Raises:
            StoreUnavailable: no room on the disk or within the limit; the store is as it was.
        """
        header = artifact.header
        assert content_hash(source) == header.prompt_hash, "the prompt that was compiled"
        assert content_hash(probes) == header.probes_hash, "the probes that were measured"
        lists = [("probes", text) for text in (probes, fitting) if text]
        self.keep(artifact, [("prompts", source), *lists], self.noted(header.id))

    def keep(self, artifact: Artifact, texts: list[Text], also: Sequence[Change] = ()) -> None:
        """Store an artifact with those of its texts that are at hand; see ``put``."""
        header, encode = artifact.header, self._texts.encode
        key = header.id.encode()
        with self._changing:
            if self.settings.max_bytes is not None:
                space.make_room(self, self.settings.max_bytes, header)
            self.records.write(
                [
                    ("tensors", key, artifact.body),
                    *((kind, content_hash(text).encode(), encode(text)) for kind, text in texts),
                    ("artifacts", key, header.record()),
                    *also,
                ]
            )

    def annotate(self, header: Header) -> None:
        """Replace the header of an artifact that is here, for what is known only afterwards."""
        record = ("artifacts", header.id.encode(), header.record())
        self.records.write([record, *self.noted(header.id)])

    def point(self, targets: Mapping[str, str]) -> None:
        """Point names at artifacts, all at once.

        Args:
            targets: by name, an id, the beginning of one, or another name.

        Raises:
            NotFoundError: no such artifact; InputError: no such name can be. No name has moved.
        """
        with self._changing:
            ids = {name: self.header(target).id for name, target in targets.items()}
            self.records.write(self.names.pointed(ids))

    def adopt(self, header: Header, name: str, fresh: bool) -> Header:
        """Point a name at an artifact; if fresh, its parent is what the name pointed at.

        Returns the header with its parent.
        """
        with self._changing:
            before = self.names.find(full_name(name))
            changes = self.names.pointed({name: header.id})
            if fresh and before is not None and before.artifact != header.id:
                header = replace(header, parent=before.artifact)
                changes += [("artifacts", header.id.encode(), header.record())]
                changes += self.noted(header.id)
            self.records.write(changes)
        return header

    def delete(self, artifact_id: str, everywhere: bool = False) -> None:  # noqa: ARG002
        """Remove an artifact, from a remote too if told so; prompt and probes stay for others.

        Raises:
            StoreUnavailable: a pinned name points at it.
        """
        with self._changing:
            header = self.header(artifact_id)
            pins = [name.name for name in self.names.of(header.id) if name.pinned]
            if pins:
                raise StoreUnavailable(
                    f"artifact {header.id} is pinned as {', '.join(pins)}; it was not deleted. "
                    f"'pcompiler store unpin {pins[0]}' lets go of it."
                )
            self.records.write(self.removal(header.id))

    def removal(self, artifact_id: str, unname: bool = True) -> list[Change]:
        """The changes that take an artifact away, and names off it unless it is to come back."""
        key = artifact_id.encode()
        gone: list[Change] = [(kind, key, None) for kind in ("artifacts", "tensors", "uploads")]
        names = self.names.of(artifact_id) if unname else ()
        return [*gone, *self.names.pointed({name.name: None for name in names})]

    def find(self, artifact_id: str) -> Header | None:
        """The header with exactly this id, or nothing."""
        record = self.records.get("artifacts", artifact_id.encode())
        return None if record is None else self._parse(record, artifact_id)

    def header(self, name: str) -> Header:
        """The header of what has this name or id, or the only one whose id begins so.

        Raises:
            NotFoundError: none, or several.
            DamageError: its record is damaged.
        """
        named = self.names.find(name)
        if named is not None:
            return self._named(name, named.artifact)
        if not _ID.fullmatch(name):
            raise NotFoundError(
                f"{name!r} is neither a file, nor a name, nor an artifact's id (4 to 24 hex "
                "digits); see 'pcompiler store list' and 'pcompiler store names'."
            )
        found = list(self.records.scan("artifacts", name.encode()))
        if len(found) != 1:
            what = f"{len(found)} artifacts begin with" if found else "no artifact has the id"
            raise NotFoundError(f"{what} {name!r} in {self.path}; see 'pcompiler store list'.")
        return self._parse(found[0][1], found[0][0].decode())

    @ranged("store get")
    def get(self, name: str) -> Artifact:
        """The artifact with this name or id; see ``header``. Counts as a use of it."""
        header = self.header(name)
        body = self.records.get("tensors", header.id.encode())
        if body is None:
            raise DamageError(f"artifact {header.id} in {self.path} has lost its tensors.")
        self.uses.note(header.id)
        return Artifact(header, body)

    def source(self, prompt_hash: str) -> str | None:
        """The prompt with this content hash, if it is here."""
        return self._text("prompts", prompt_hash)

    def probes(self, probes_hash: str) -> str | None:
        """The probe list with this content hash, if it is here."""
        return self._text("probes", probes_hash)

    def headers(self) -> Iterator[Header]:
        """All headers, in order of id; no tensors are read."""
        for key, record in self.records.scan("artifacts"):
            yield self._parse(record, key.decode())

    def texts(self) -> Iterator[str]:
        """All prompts and probe lists. Raises DamageError, as reading one of them does."""
        for family in TEXTS:
            for key, record in self.records.scan(family):
                yield self.read(family, key.decode(), record)

    def dictionary(self) -> Dictionary | None:
        """The dictionary that prompts and probes are stored with, if any."""
        return self._texts.current()

    def dictionaries(self) -> list[tuple[Dictionary, int]]:
        """All dictionaries, oldest first, and how many records cannot be read without each."""
        return self._texts.all()

    def add_dictionary(self, dictionary: Dictionary) -> Dictionary:
        """Store prompts and probes with this dictionary from now on.

        A store has 64 dictionaries at most: the oldest that no record needs makes room.

        Returns:
            the dictionary as the store has it: one that was here already stays as it is.

        Raises:
            StoreUnavailable: there are 64, and records need them all.
        """
        with self._changing:
            return self._texts.add(dictionary)

    def vectors(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Embeddings by key; None where there is none, or a damaged one: they can be made again."""
        try:
            return self.records.get_many("embeddings", keys)
        except DamageError:
            return [self.records.get_whole("embeddings", key) for key in keys]

    def add_vectors(self, records: Mapping[bytes, bytes]) -> None:
        """Store embeddings by key, all or nothing."""
        self.records.write(("embeddings", key, value) for key, value in records.items())

    def all_vectors(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Embeddings whose keys begin so; damaged ones are left out."""
        for key, _ in self.records.engine.scan("embeddings", prefix):
            if not key.startswith(prefix):
                return
            value = self.records.get_whole("embeddings", key)
            if value is not None:
                yield key, value

    def gc(self) -> space.Freed:
        """Remove what no artifact needs; see ``space.collect``."""
        with self._changing:
            return space.collect(self)

    def evict(self, max_bytes: int) -> list[Header]:
        """Remove the artifacts that were not used for longest; see ``space.evict``."""
        with self._changing:
            return space.evict(self, max_bytes)

    def read(self, family: str, key: str, record: bytes) -> str:
        """The text of a record. Raises DamageError: it is not what its key says."""
        try:
            text = self._texts.decode(record)
        except PcompilerError as e:
            raise DamageError(f"record {key} of {family} in {self.path}: {e}") from None
        if content_hash(text) != key:
            raise DamageError(f"record {key} of {family} in {self.path} is damaged.")
        return text

    def _text(self, family: str, key: str) -> str | None:
        record = self.records.get(family, key.encode())
        return None if record is None else self.read(family, key, record)

    def _named(self, name: str, artifact: str | None) -> Header:
        found = None if artifact is None else self.find(artifact)
        if found is None:
            raise NotFoundError(
                f"what {name!r} pointed at is no longer in {self.path}; "
                f"see 'pcompiler store log {name}'."
            )
        return found

    def _parse(self, record: bytes, key: str) -> Header:
        try:
            return Header.parse(record)[0]
        except PcompilerError as e:
            raise type(e)(f"artifact {key} in {self.path}: {e}") from None
