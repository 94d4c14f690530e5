"""The contract of an engine: prompts in, one outcome each out, in the order in which they end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pcompiler.closing import Closing

AHEAD = 1_000  # prompts that are taken after one that has not ended, so that few ever wait


class Entry(NamedTuple):
    """One prompt of a corpus.

    Attributes:
        source: the prompt; of an entry that could not be read, what there was instead.
        label: what its corpus calls it.
        queries: held-out probes; none: the model writes them.
        error: why it could not be read.
    """

    source: str
    label: str | int | None = None
    queries: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one prompt.

    Attributes:
        number: its place among those given, from 0.
        id: content address of what it compiles to.
        known: it was in the store, or on its way there, when the engine took it.
        seconds: from then until what it compiles to was acknowledged by the store.
        error: why it failed; none: it is in the store.
    """

    number: int
    id: str
    known: bool
    seconds: float
    error: str | None = None


class Engine(Closing):
    """Compiles prompts into one store, each content once.

    Entries are taken one by one, as room comes free, and none that is ``AHEAD`` after one that has
    not ended: any number of them takes bounded memory. A prompt that fails is an outcome and stops
    no other. What is stored depends on the entries alone, not on the engine.
    """

    @abstractmethod
    def run(self, entries: Iterable[Entry]) -> Iterator[Outcome]:
        """Compile all of them.

        Raises:
            StoreUnavailable: the store can no longer be written.
        """
