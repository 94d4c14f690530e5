"""Engines for tests: makers whose every prompt is on record, and that some prompts really kill."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tokenizers import Tokenizer

from pcompiler.draft import Drafter
from pcompiler.embed.static import Static
from pcompiler.scale.base import Entry
from pcompiler.scale.drafts import Drafts
from pcompiler.scale.keeper import Maker, Parts, Recipe
from pcompiler.store.artifact import Header
from pcompiler.store.db import Store

DEADLY = "This prompt ends whoever is at it."


@dataclass(frozen=True)
class RecordedRecipe(Recipe):
    """Drafts with a small table; each prompt is written to a file before it is made."""

    rows: bytes
    words: str
    record: str

    def load(self) -> Maker:
        table = np.frombuffer(self.rows, np.float32).reshape(-1, 16)
        return RecordedMaker(
            Static.from_objects(table, Tokenizer.from_str(self.words)), self.record
        )


class RecordedMaker(Maker):
    def __init__(self, table: Static, record: str) -> None:
        self._table, self._drafter, self._record = table, Drafter(table), record

    def about(self) -> bytes:
        return self._table.fingerprint.encode()

    def make(self, entry: Entry) -> Parts:
        with Path(self._record).open("a") as file:
            file.write(json.dumps(entry.source) + "\n")
        if entry.source == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        draft = self._drafter.make(entry.source)
        told = draft.messages and [asdict(message) for message in draft.messages]
        return json.dumps(told).encode(), draft.vector


class Recorded(Drafts):
    """Keeps drafts that are made elsewhere only."""

    makes: ClassVar[bool] = False

    def __init__(self, store: Store, table: Static, record: Path) -> None:
        super().__init__(store, table)
        self._record = record
        self.recipe = RecordedRecipe(
            np.ascontiguousarray(table.table, np.float32).tobytes(),
            table.tokenizer.to_str(),
            str(record),
        )

    def made(self) -> Counter[str]:
        """How often each prompt was begun."""
        if not self._record.exists():
            return Counter()
        return Counter(map(json.loads, self._record.read_text().splitlines()))

    def forget_all(self) -> None:
        """Empty the store of drafts."""
        keys = [draft.id.encode() for draft in self._store.drafts.all()]
        self._store.records.write([("drafts", key, None) for key in keys])


def contents(store: Store) -> dict[str, list[tuple[bytes, Any]]]:
    """All that a store has; of headers what no clock has a part in."""
    families = ("tensors", "prompts", "probes", "embeddings", "drafts")
    found: dict[str, list[tuple[bytes, Any]]] = {
        family: list(store.records.scan(family)) for family in families
    }
    found["artifacts"] = [
        (key, timeless(Header.parse(record)[0])) for key, record in store.records.scan("artifacts")
    ]
    return found


def timeless(header: Header) -> dict[str, Any]:
    """A header without when it was made, and how long that took."""
    fields = asdict(header)
    return {name: fields[name] for name in fields if name not in ("created", "timing")}
