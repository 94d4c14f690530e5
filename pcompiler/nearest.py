"""The prompts of a store by meaning: which are nearest to a text, and what is compiled twice.

A compile embeds its prompt with the static table, which takes milliseconds, if the table is there;
so the next compile finds its near-duplicates among vectors that are at hand. ``store search``
embeds whatever has no vector yet, with the provider of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pcompiler.embed import static
from pcompiler.embed.base import Provider
from pcompiler.embed.cache import Cached, InMemory, VectorStore
from pcompiler.errors import InputError, ModelError
from pcompiler.frontend import parse
from pcompiler.store.artifact import Header
from pcompiler.store.index import Index
from pcompiler.store.key import content_hash

NEAR = 0.95  # cosine of static vectors from which on two prompts are told to be nearly the same
CANDIDATES = 8  # nearest prompts that an artifact is looked for of
MOST = 2_000  # vectors that a compile looks through: 13 ms, beside 25 ms for loading the table


class PromptStore(Protocol):
    """Artifacts and the prompts that they came from; ``store.db.Store`` is one."""

    def headers(self) -> Iterator[Header]:
        """All headers."""
        ...

    def source(self, prompt_hash: str) -> str | None:
        """A prompt by its content hash."""
        ...


@dataclass(frozen=True)
class Hit:
    """A stored prompt near to a text.

    Attributes:
        cosine: -1 to 1.
        prompt_hash: of the prompt.
        headers: its artifacts.
    """

    cosine: float
    prompt_hash: str
    headers: tuple[Header, ...]


class Prompts:
    """The prompts of one store, through one provider's vectors.

    Args:
        store: artifacts and prompts; where it keeps vectors as well, they are kept there.
        provider: makes the vectors.
        keep: write vectors to the store; no: it is open for reading only.
    """

    def __init__(self, store: PromptStore, provider: Provider, keep: bool = True) -> None:
        self._store = store
        kept = store if isinstance(store, VectorStore) else None
        self.cached = Cached(provider, kept if kept and keep else InMemory(kept), whole=True)

    def add(self, source: str) -> None:
        """Embed a prompt that was compiled, unless it has a vector."""
        self._embed([(content_hash(source), source)])

    def search(self, text: str, limit: int = 10) -> list[Hit]:
        """The stored prompts nearest to a text, nearest first.

        Raises:
            InputError: nothing to search for, or a limit below 1.
        """
        if not text.strip() or limit < 1:
            raise InputError("give a text to search for, and a limit of 1 or more.")
        artifacts = _by_prompt(self._store.headers())
        sources = ((name, self._store.source(name)) for name in artifacts)
        index = self._embed([(name, source) for name, source in sources if source])
        if index is None:
            return []
        query = self.cached.make([text])[0]
        found = index.nearest(query, limit, self.cached.fingerprint)
        return [Hit(cosine, name, tuple(artifacts[name])) for name, cosine in found]

    def near_duplicate(self, source: str, model: dict[str, object]) -> Hit | None:
        """The nearest other prompt that is compiled for the model, from a cosine of 0.95 on.

        Only vectors that are in the store are looked through, 2,000 of them at most; None as well
        for a prompt that has a vector itself: it was compiled before.
        """
        names, rows = self.cached.all(MOST)
        own = bytes.fromhex(content_hash(source))
        if not names or own in names:
            return None
        query = self.cached.make([_text(source)])[0]
        fingerprint = self.cached.fingerprint
        near = Index(names, rows, fingerprint).nearest(query, CANDIDATES, fingerprint)
        close = {name.hex(): cosine for name, cosine in near if cosine >= NEAR}
        if not close:
            return None
        artifacts = _by_prompt(h for h in self._store.headers() if h.model == model)
        for name, cosine in close.items():
            if name in artifacts:
                return Hit(cosine, name, tuple(artifacts[name]))
        return None

    def _embed(self, prompts: list[tuple[str, str]]) -> Index[str] | None:
        """An index of prompts, given by hash and source; None of none."""
        if not prompts:
            return None
        names = [name for name, _ in prompts]
        texts = [_text(source) for _, source in prompts]
        rows = self.cached.embed(texts, [bytes.fromhex(name) for name in names])
        return Index(names, rows, self.cached.fingerprint)


def of_static(store: PromptStore) -> Prompts | None:
    """The prompts of a store that keeps vectors, by the static table; None where it is not made.

    A damaged table is none: a compile does not need it, and ``store search`` says what is wrong.
    """
    if not isinstance(store, VectorStore) or static.ready() is None:
        return None
    try:
        return Prompts(store, static.Static.load())
    except ModelError:
        return None


def _by_prompt(headers: Iterable[Header]) -> dict[str, list[Header]]:
    found: dict[str, list[Header]] = {}
    for header in headers:
        found.setdefault(header.prompt_hash, []).append(header)
    return found


def _text(source: str) -> str:
    """What a prompt says, without what makes it chat messages."""
    return "\n\n".join(message.content for message in parse(source).messages)
