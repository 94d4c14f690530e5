"""The workers' way to the processes behind them; see ``contract.Backend``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pcompiler.errors import Gone, PcompilerError
from pcompiler.serve import wire
from pcompiler.serve.contract import ChatRequest, CompileRequest, End, Job, Piece
from pcompiler.serve.process import NAMES, socket_of

RETRY_S = 5.0  # about as long as a process takes to come back
PING_S = 2.0


class Client:
    """Calls the generator and the compiler; one connection a call, so nothing has to be mended.

    Args:
        folder: where their sockets are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _call(self, process: str, name: str, arguments: Any = None) -> AsyncIterator[Any]:  # noqa: ANN401
        def away() -> Gone:
            return Gone(f"the {process} died, or is starting; come back in a moment.", RETRY_S)

        return wire.call(socket_of(self._folder, process), name, arguments, away)

    async def _one(self, process: str, name: str, arguments: Any = None) -> Any:  # noqa: ANN401
        async with aclosing(self._call(process, name, arguments)) as items:  # type: ignore[type-var]
            return await anext(items)

    async def chat(self, request: ChatRequest) -> AsyncIterator[Piece | End]:
        """See ``Backend``."""
        async with aclosing(self._call("generator", "chat", asdict(request))) as items:  # type: ignore[type-var]
            async for item in items:
                yield Piece(**item["piece"]) if "piece" in item else End(**item["end"])

    async def embed(self, texts: Sequence[str], client: str = "") -> list[list[float]]:
        """See ``Backend``."""
        given = {"texts": list(texts), "client": client}
        found: list[list[float]] = await self._one("compiler", "embed", given)
        return found

    async def submit(self, request: CompileRequest) -> Job:
        """See ``Backend``."""
        return Job(**await self._one("compiler", "submit", asdict(request)))

    async def job(self, job_id: str) -> Job | None:
        """See ``Backend``."""
        found = await self._one("compiler", "job", job_id)
        return None if found is None else Job(**found)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """See ``Backend``."""
        async with aclosing(self._call("compiler", "watch", job_id)) as items:  # type: ignore[type-var]
            async for item in items:
                yield Job(**item)

    async def cancel(self, job_id: str) -> bool:
        """See ``Backend``."""
        stopped: bool = await self._one("compiler", "cancel", job_id)
        return stopped

    async def search(self, query: str, count: int) -> list[tuple[str, float]]:
        """See ``Backend``."""
        found = await self._one("compiler", "search", {"query": query, "count": count})
        return [(name, similarity) for name, similarity in found]

    async def delete(self, artifact_id: str, everywhere: bool = False) -> None:
        """See ``Backend``."""
        await self._one("compiler", "delete", {"artifact": artifact_id, "everywhere": everywhere})

    async def fetch(self, name: str) -> bool:
        """See ``Backend``."""
        found: bool = await self._one("compiler", "fetch", name)
        return found

    async def ready(self) -> Mapping[str, bool]:
        """See ``Backend``."""
        found = await asyncio.gather(*map(self.answers, NAMES))
        return dict(zip(NAMES, found, strict=True))

    async def answers(self, process: str) -> bool:
        """Whether one of them answers, and works."""
        try:
            return bool(await asyncio.wait_for(self._one(process, "ready"), PING_S))
        except (PcompilerError, asyncio.TimeoutError):
            return False
