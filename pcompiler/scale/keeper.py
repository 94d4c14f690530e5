"""The contract of what is compiled: one process keeps the store, others load what makes.

A recipe travels to the process that makes; what is made comes back as bytes, whose meaning only
the maker and the keeper know.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from pcompiler import errors, progress
from pcompiler.errors import MismatchError, PcompilerError
from pcompiler.scale.base import Entry

Parts = tuple[bytes, ...]


class Answer(NamedTuple):
    """What comes back: parts, or why there are none, and which class of error that was."""

    parts: Parts = ()
    error: str | None = None
    kind: str = ""


class Maker(ABC):
    """Makes, wherever it was loaded."""

    @abstractmethod
    def about(self) -> bytes:
        """What the keeper has to know of it, before the first prompt."""

    @abstractmethod
    def make(self, entry: Entry) -> Parts:
        """Compile a prompt. What it raises is that prompt's outcome."""


class Recipe(ABC):
    """Says what a maker is to load; small, and the same in every process."""

    @abstractmethod
    def load(self) -> Maker:
        """Load it, once in the life of a process. Raises UserError."""


class Station:
    """A maker in a process of its own. Nothing that a prompt does ends it: it always answers.

    Args:
        recipe: what to load.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._maker: Maker | None = None

    def load(self) -> Answer:
        """Load it; the parts are what the keeper has to know, and the process's id."""
        return _answer(lambda: (self._loaded().about(), str(os.getpid()).encode()))

    def make(self, source: str, queries: Sequence[str]) -> Answer:
        """Compile a prompt."""
        return _answer(lambda: self._loaded().make(Entry(source, queries=tuple(queries))))

    def _loaded(self) -> Maker:
        if self._maker is None:
            self._maker = self._recipe.load()
        return self._maker


class Keeper(ABC):
    """Beside the store: tells where a prompt belongs, whether it is there, and puts it there.

    Attributes:
        recipe: of what makes.
        room: prompts that one maker may hold, the one that it is at included.
        makes: this process makes as well, where no other has room.
        about: what all makers are alike in: the fingerprint of a model or table.
        found_s: seconds that went into prompts that were found; an engine counts them.
    """

    recipe: Recipe
    room: ClassVar[int]
    makes: ClassVar[bool] = False

    def __init__(self) -> None:
        self.found_s, self.about = 0.0, b""

    def learn(self, about: bytes) -> None:
        """Take note of what a maker says of itself.

        Raises:
            MismatchError: another one said something else.
        """
        if self.about not in (b"", about):
            raise MismatchError(
                f"one process has loaded {about.decode()!r}, another {self.about.decode()!r}: a "
                "model or table has changed meanwhile, or differs from machine to machine."
            )
        self.about = about

    @abstractmethod
    def address(self, entry: Entry) -> str:
        """The id of what it compiles to; costs hashing only. Raises UnicodeEncodeError."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether that is in the store.

        Raises:
            GateMissed: it is, and is less faithful than is asked for.
            DamageError: its record is damaged.
        """

    @abstractmethod
    def keep(self, key: str, entry: Entry, parts: Parts) -> None:
        """Put what was made into the store, all or nothing.

        Raises:
            StoreUnavailable: it cannot be written.
            MismatchError: it is not what the key says.
        """

    def make(self, entry: Entry) -> None:
        """Make it here, and keep it; where ``makes``."""
        raise NotImplementedError


def _answer(work: Callable[[], Parts]) -> Answer:
    """What it returns, or how it failed: nothing that a prompt does may end a maker."""
    try:
        with progress.hidden():
            return Answer(work())
    except Exception as e:
        return Answer((), told(e), type(e).__name__)


def told(error: Exception) -> str:
    """An error in words."""
    return str(error) if isinstance(error, PcompilerError) else repr(error)


def failure(of: Answer) -> PcompilerError:
    """The error of an answer that is one, to be raised here."""
    kind = getattr(errors, of.kind, errors.UserError)
    known = isinstance(kind, type) and issubclass(kind, PcompilerError)
    error: PcompilerError = (kind if known else errors.UserError)(of.error)
    return error
