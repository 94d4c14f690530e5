"""Server-sent events: a stream that is closed with the response, and does not fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse

T = TypeVar("T")
KIND = "text/event-stream"
SILENCE_S = 10.0  # after which a comment says that there is more to come


def event(data: str, kind: str | None = None) -> bytes:
    """One event of a line of data."""
    head = f"event: {kind}\n" if kind else ""
    return f"{head}data: {data}\n\n".encode()


class Events(StreamingResponse):
    """A response of events; whatever happens to it, what it is made from is closed.

    Args:
        events: encoded events.
        source: what they are made from.
    """

    media_type = KIND

    def __init__(self, events: AsyncIterator[bytes], source: Any) -> None:  # noqa: ANN401
        super().__init__(spoken(events), headers={"cache-control": "no-store"})
        self._source = source

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Send it."""
        async with aclosing(self._source), aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


async def spoken(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events, and a comment wherever there is none for long."""
    step = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait({step}, timeout=SILENCE_S)
            if not done:
                yield b": still here\n\n"
                continue
            try:
                item = step.result()
            except StopAsyncIteration:
                return
            yield item
            step = asyncio.ensure_future(anext(events))
    finally:
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
