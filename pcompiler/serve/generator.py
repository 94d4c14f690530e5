"""The generator: the process that answers chats. It reads the store, and never writes to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from pcompiler.config import Config
from pcompiler.model import LanguageModel
from pcompiler.serve import wire
from pcompiler.serve.contract import ChatRequest, End, Message, Piece
from pcompiler.serve.prefixes import Prefixes
from pcompiler.serve.scheduler import Scheduler


class Generator:
    """What the process does with calls; see ``process.run``.

    Args:
        config: all settings.
        model: the language model.
    """

    name = "generator"

    def __init__(self, config: Config, model: LanguageModel) -> None:
        limit = config.serve.prefix_cache_mb * 2**20
        self._prefixes = Prefixes(model, config.store.folder, config.store, limit)
        self._hang_s = config.serve.hang_s
        self._scheduler = Scheduler(model, self._prefixes, config.serve)

    @property
    def handlers(self) -> dict[str, wire.Handler]:
        """Calls by name."""
        return {"chat": self._chat, "ready": self._ready}

    async def start(self) -> None:
        """Begin to work."""
        self._scheduler.start()

    async def drain(self, seconds: float) -> None:
        """Chats under way end by themselves; the door waits for them."""

    async def close(self) -> None:
        """Let go of everything."""
        with ExitStack() as stack:
            stack.callback(self._prefixes.close)
            await asyncio.to_thread(self._scheduler.close)

    async def _ready(self, _: Any) -> AsyncIterator[bool]:  # noqa: ANN401
        yield self._scheduler.still_s < self._hang_s

    async def _chat(self, given: Any) -> AsyncIterator[dict[str, Any]]:  # noqa: ANN401
        messages = [Message(**message) for message in given["messages"]]
        request = ChatRequest(**{**given, "messages": messages})
        loop = asyncio.get_running_loop()
        said: asyncio.Queue[Piece | End | Exception] = asyncio.Queue()

        def say(item: Piece | End | Exception) -> None:
            loop.call_soon_threadsafe(said.put_nowait, item)

        generation = self._scheduler.submit(request, say)
        try:
            while not isinstance(item := await said.get(), End):
                if isinstance(item, Exception):
                    raise item
                yield {"piece": asdict(item)}
            yield {"end": asdict(item)}
        finally:
            self._scheduler.cancel(generation)
