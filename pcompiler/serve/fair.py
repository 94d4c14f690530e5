"""A bounded queue that serves its clients in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from pcompiler.errors import Busy

T = TypeVar("T")
SHARE = 4  # one place of so many is for clients that have nothing waiting yet


class FairQueue(Generic[T]):
    """What one client puts in comes out in order; clients take turns. Not for several threads.

    Args:
        limit: of what waits; a client that has something waiting already leaves the last quarter
            of it to others.
        what: what waits, for messages.
        retry_after_s: when to come back if it is full.
    """

    def __init__(self, limit: int, what: str, retry_after_s: float = 2.0) -> None:
        self._limit, self._what, self._retry_after_s = limit, what, retry_after_s
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[T]:
        for own in self._waiting.values():
            yield from own

    def put(self, client: str, item: T) -> None:
        """Let it wait. Raises Busy: there is no room."""
        room = self._limit - (self._limit // SHARE if client in self._waiting else 0)
        if len(self) >= room:
            raise Busy(f"{len(self)} {self._what} are waiting already.", self._retry_after_s)
        self._waiting.setdefault(client, deque()).append(item)

    def pop(self) -> T | None:
        """The oldest of the client whose turn it is; none: nothing waits."""
        if not self._waiting:
            return None
        client, own = next(iter(self._waiting.items()))
        item = own.popleft()
        self._waiting.move_to_end(client)
        if not own:
            del self._waiting[client]
        return item

    def remove(self, item: T) -> bool:
        """Take something out that waits no longer; False: it was out already."""
        for client, own in self._waiting.items():
            if item in own:
                own.remove(item)
                if not own:
                    del self._waiting[client]
                return True
        return False
