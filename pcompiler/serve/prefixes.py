"""Artifacts in place: those that were asked for last are kept in memory, up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from pcompiler import meter, pipeline, targets
from pcompiler.closing import Closing
from pcompiler.config import StoreConfig
from pcompiler.errors import PcompilerError
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import Prefix, nothing
from pcompiler.serve.following import followed
from pcompiler.store.artifact import Header
from pcompiler.store.db import Store
from pcompiler.targets.text import Text


@dataclass(frozen=True)
class Placed:
    """What stands before a chat.

    Attributes:
        header: of the artifact; none: nothing stands there.
        prefix: ready to be gone on from.
        unread: tokens of a text artifact that have still to be read, before the chat's own.
    """

    header: Header | None
    prefix: Prefix
    unread: tuple[int, ...] = ()


class Prefixes(Closing):
    """The artifacts of a store, for one model. Not for several threads at once.

    Args:
        model: the language model.
        folder: the store's, which another process writes to.
        settings: of the [store] section.
        limit_bytes: of what is kept in memory beside what is in use.
    """

    def __init__(
        self, model: LanguageModel, folder: Path, settings: StoreConfig, limit_bytes: int
    ) -> None:
        self._model, self._folder, self._settings = model, folder, settings
        self._limit = limit_bytes
        self._kept: OrderedDict[str, Prefix] = OrderedDict()
        self._store: Store | None = None
        self._opened_at: int | None = None

    def close(self) -> None:
        """Let go of the store and of all that is kept."""
        self._kept.clear()
        if self._store is not None:
            self._store.close()
            self._store = None

    def load(self, name: str | None) -> Placed:
        """What has this id or name, as its writer has it now; None: nothing.

        Raises:
            NotFoundError, MismatchError, DamageError: see ``Compiler.session``.
            Gone: there is no store yet.
        """
        if name is None:
            return Placed(None, nothing(self._model))
        store = self._caught_up()
        header = store.header(name)
        known = self._kept.get(header.id)
        found = "hit" if known is not None else "miss"
        meter.count("cache_requests", cache="prefix", result=found)
        if known is not None:
            self._kept.move_to_end(header.id)
            return Placed(header, known)
        artifact = store.get(header.id)
        target = targets.get(header.target)
        if isinstance(target, Text):
            pipeline.check_model(self._model, header)
            ids = target.context_ids(self._model, artifact.tensors())
            return Placed(header, nothing(self._model), tuple(ids))
        prefix = pipeline.attach(self._model, artifact)
        self.keep(header.id, prefix)
        return Placed(header, prefix)

    def keep(self, artifact_id: str, prefix: Prefix) -> None:
        """Have it at hand for whoever asks next; those not asked for longest make room."""
        self._kept[artifact_id] = prefix
        self._kept.move_to_end(artifact_id)
        while self._kept and sum(map(size_bytes, self._kept.values())) > self._limit:
            self._kept.popitem(last=False)

    def _caught_up(self) -> Store:
        """The store as it is now: opened anew where its files were replaced."""
        if self._store is not None and self._place() == self._opened_at:
            try:
                self._store.catch_up()
                return self._store
            except PcompilerError:
                pass
        if self._store is not None:
            self._store.close()
            self._store = None
        self._opened_at = self._place()
        self._store = followed(self._folder, self._settings)
        return self._store

    def _place(self) -> int | None:
        """Which folder it is that has the store's path."""
        try:
            return self._folder.stat().st_ino
        except OSError:
            return None


def size_bytes(prefix: Prefix) -> int:
    """What a prefix takes in memory."""
    own = [prefix.keys, prefix.values, prefix.bias, prefix.positions]
    deltas = prefix.patch.deltas.values() if prefix.patch else ()
    every = [*own, *(t for d in deltas for t in (d.a, d.b, d.bias))]
    return sum(t.nbytes for t in every if t is not None)
