"""Prompts to drafts: no language model. Made in this process too: that costs less than waiting."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import ClassVar

from pcompiler.draft import Drafter
from pcompiler.embed.base import Provider
from pcompiler.embed.static import Static
from pcompiler.ir import Message
from pcompiler.scale.base import Entry
from pcompiler.scale.keeper import Keeper, Maker, Parts, Recipe
from pcompiler.store.db import Store
from pcompiler.store.drafts import Draft


@dataclass(frozen=True)
class DraftRecipe(Recipe):
    """Drafts with the static table's vectors."""

    def load(self) -> Maker:
        """Load the table."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        return _DraftMaker(Static.load())


class _DraftMaker(Maker):
    def __init__(self, provider: Provider) -> None:
        self._provider, self._drafter = provider, Drafter(provider)

    def about(self) -> bytes:
        return self._provider.fingerprint.encode()

    def make(self, entry: Entry) -> Parts:
        draft = self._drafter.make(entry.source)
        told = draft.messages and [asdict(message) for message in draft.messages]
        return json.dumps(told).encode(), draft.vector


class Drafts(Keeper):
    """Keeps drafts.

    Args:
        store: open for writing.
        provider: of the vectors made here; other processes load the static table, so it must be
            that one where there are any.

    Attributes:
        drafter: of this process; its clock tells where the time goes.
    """

    room: ClassVar[int] = 4
    makes: ClassVar[bool] = True

    def __init__(self, store: Store, provider: Provider | None = None) -> None:
        super().__init__()
        self.recipe = DraftRecipe()
        provider = provider or Static.load()
        self.about = provider.fingerprint.encode()
        self.drafter, self._store = Drafter(provider), store

    def address(self, entry: Entry) -> str:
        """See ``Keeper``; queries are of no use to a draft."""
        return self.drafter.address(entry.source)

    def has(self, key: str) -> bool:
        """See ``Keeper``."""
        return self._store.drafts.has(key)

    def keep(self, key: str, entry: Entry, parts: Parts) -> None:  # noqa: ARG002 - it is made here
        """See ``Keeper``."""
        told, vector = json.loads(parts[0]), parts[1]
        messages = told and tuple(Message(**message) for message in told)
        self._put(self.drafter.assemble(entry.source, messages, vector), entry.source)

    def make(self, entry: Entry) -> None:
        """See ``Keeper``."""
        self._put(self.drafter.make(entry.source), entry.source)

    def _put(self, draft: Draft, source: str) -> None:
        with self.drafter.clock.lap("codec and store"):
            self._store.drafts.put(draft, source)
