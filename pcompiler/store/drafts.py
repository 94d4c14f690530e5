"""Drafts: prompts compiled without a language model, by content address.

A record tells which prompt it is of, and its tidied messages where they say something else than
the prompt's own text. The prompt and its vector are records of their own, so that a draft is found
by meaning as an artifact is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pcompiler.errors import DamageError, NotFoundError
from pcompiler.ir import Message
from pcompiler.store.engine import Change

if TYPE_CHECKING:
    from pcompiler.store.db import Store
    from pcompiler.store.texts import Texts

FAMILY = "drafts"
SYSTEM = "system"  # whose turn a prompt is that is no chat


@dataclass(frozen=True)
class Draft:
    """What a prompt is compiled to.

    Attributes:
        id: content address, 24 hex digits.
        prompt_hash: content hash of the prompt's source.
        messages: what the model is to see; none: the source itself, as a system message.
        vector_key: what the vector is kept by.
        vector: the record of its vector; empty: read from a store, where it stands apart.
    """

    id: str
    prompt_hash: str
    messages: tuple[Message, ...] | None
    vector_key: bytes = b""
    vector: bytes = b""

    def encode(self) -> bytes:
        """Its record."""
        told = self.messages and [asdict(message) for message in self.messages]
        fields = {"prompt": self.prompt_hash, "messages": told}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, key: str, record: bytes) -> Draft:
        """Undo ``encode``. Raises DamageError."""
        try:
            fields = json.loads(record)
            told = fields["messages"]
            messages = None if told is None else tuple(Message(**message) for message in told)
            return cls(key, str(fields["prompt"]), messages)
        except (ValueError, TypeError, KeyError) as e:
            raise DamageError(f"draft {key} does not read as one: {e!r}.") from None


class Drafts:
    """The drafts of a store; may be shared by threads."""

    def __init__(self, store: Store, texts: Texts) -> None:
        self._store, self._texts = store, texts

    def has(self, draft_id: str) -> bool:
        """Whether it is here."""
        return self._store.records.get(FAMILY, draft_id.encode()) is not None

    def put(self, draft: Draft, source: str) -> None:
        """Store a draft with its prompt and vector, all or nothing.

        Raises:
            StoreUnavailable: the disk is full or not writable; the store is as it was.
        """
        changes: list[Change] = [
            ("prompts", draft.prompt_hash.encode(), self._texts.encode(source)),
            ("embeddings", draft.vector_key, draft.vector),
            (FAMILY, draft.id.encode(), draft.encode()),
        ]
        self._store.records.write(changes)

    def get(self, draft_id: str) -> tuple[Message, ...]:
        """The messages of a draft.

        Raises:
            NotFoundError: no such draft; DamageError: its record, or its prompt, is damaged.
        """
        record = self._store.records.get(FAMILY, draft_id.encode())
        if record is None:
            raise NotFoundError(f"no draft has the id {draft_id!r} in {self._store.path}.")
        draft = Draft.decode(draft_id, record)
        if draft.messages is not None:
            return draft.messages
        source = self._store.source(draft.prompt_hash)
        if source is None:
            raise DamageError(f"draft {draft_id} in {self._store.path} has lost its prompt.")
        return (Message(SYSTEM, source),)

    def all(self) -> Iterator[Draft]:
        """All drafts, in order of id."""
        for key, record in self._store.records.scan(FAMILY):
            yield Draft.decode(key.decode(), record)
