"""One thread for many clients, who take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pcompiler.serve.fair import FairQueue

T = TypeVar("T")


class Turns:
    """Runs one piece of work at a time; each client has the next turn after the others had one.

    Args:
        most: pieces that wait; whoever lets them in keeps to fewer.
        name: of the thread.
    """

    def __init__(self, most: int, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue(2 * most, "texts")
        self._busy = False

    def close(self) -> None:
        """Wait for the piece that runs."""
        self._thread.shutdown()

    async def run(self, client: str, work: Callable[[], T]) -> T:
        """What the work returns, once it was this client's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.put(client, turn)
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if not self._waiting.remove(turn):
                self._over()  # it was its turn just now
            raise
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._over()

    def _over(self) -> None:
        self._busy = False
        self._next()

    def _next(self) -> None:
        if not self._busy and (turn := self._waiting.pop()) is not None:
            self._busy = True
            turn.set_result(None)
