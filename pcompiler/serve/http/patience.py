"""A backend that answers in time or is given up: no request hangs because a process does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from pcompiler.errors import Gone
from pcompiler.serve.contract import Backend, ChatRequest, CompileRequest, End, Job, Piece
from pcompiler.serving import ServeConfig

GRACE_S = 5.0  # beyond the time that the processes themselves keep to
SHORT_S = 20.0  # for what only asks where something stands
T = TypeVar("T")


class Patient:
    """See ``contract.Backend``; raises Gone as well where one does not answer.

    Args:
        backend: what is asked.
        settings: how long a chat and a compile may take.
    """

    def __init__(self, backend: Backend, settings: ServeConfig) -> None:
        self._backend = backend
        self._chat_s, self._compile_s = settings.chat_s + GRACE_S, settings.compile_s + GRACE_S

    async def chat(self, request: ChatRequest) -> AsyncIterator[Piece | End]:
        """See ``Backend``."""
        async with aclosing(_steps(self._backend.chat(request), self._chat_s)) as items:
            async for item in items:
                yield item

    async def embed(self, texts: Sequence[str], client: str = "") -> list[list[float]]:
        """See ``Backend``."""
        return await _one(self._backend.embed(texts, client), self._chat_s)

    async def submit(self, request: CompileRequest) -> Job:
        """See ``Backend``."""
        return await _one(self._backend.submit(request), SHORT_S)

    async def job(self, job_id: str) -> Job | None:
        """See ``Backend``."""
        return await _one(self._backend.job(job_id), SHORT_S)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """See ``Backend``."""
        async with aclosing(_steps(self._backend.watch(job_id), self._compile_s)) as states:
            async for state in states:
                yield state

    async def cancel(self, job_id: str) -> bool:
        """See ``Backend``."""
        return await _one(self._backend.cancel(job_id), SHORT_S)

    async def search(self, query: str, count: int) -> list[tuple[str, float]]:
        """See ``Backend``."""
        return await _one(self._backend.search(query, count), self._chat_s)

    async def delete(self, artifact_id: str, everywhere: bool = False) -> None:
        """See ``Backend``."""
        await _one(self._backend.delete(artifact_id, everywhere), SHORT_S)

    async def fetch(self, name: str) -> bool:
        """See ``Backend``."""
        return await _one(self._backend.fetch(name), self._chat_s)

    async def ready(self) -> Mapping[str, bool]:
        """See ``Backend``."""
        return await _one(self._backend.ready(), SHORT_S)


async def _one(answer: Awaitable[T], timeout_s: float) -> T:
    try:
        return await asyncio.wait_for(answer, timeout_s)
    except asyncio.TimeoutError:
        raise Gone(f"there was no answer within {timeout_s:g} s.", GRACE_S) from None


async def _steps(items: AsyncIterator[T], timeout_s: float) -> AsyncGenerator[T, None]:
    async with aclosing(items):  # type: ignore[type-var]
        while True:
            try:
                item = await _one(anext(items), timeout_s)
            except StopAsyncIteration:
                return
            yield item
