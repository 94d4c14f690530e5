"""The compiler: the process that compiles, embeds and searches; the store's one writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

from pcompiler import embed, meter
from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.embed.base import check_texts
from pcompiler.embed.encoder import Encoder
from pcompiler.errors import Busy, NotFoundError
from pcompiler.model import LanguageModel
from pcompiler.nearest import Prompts
from pcompiler.pipeline import Compiled
from pcompiler.serve import wire
from pcompiler.serve.contract import CompileRequest
from pcompiler.serve.history import History
from pcompiler.serve.jobs import Jobs
from pcompiler.serve.turns import Turns

PIECE = 32  # texts that are embedded at a time, before another request has its turn
FETCHERS = 8  # artifacts that come from a remote side by side


class Compiling:
    """What the process does with calls; see ``process.run``.

    Args:
        config: all settings.
        model: the language model.
        history: of jobs, beyond this process.
    """

    name = "compiler"

    def __init__(
        self, config: Config, model: LanguageModel, history: History | None = None
    ) -> None:
        self._config = config
        self._compiler = Compiler(model, config=config)
        self._jobs = Jobs(self._compiled, config.serve, history)
        self._runner: asyncio.Task[None] | None = None
        # Beside the thread that compiles, so that a text does not wait for a compile.
        self._turns = Turns(config.serve.embed_queue, "embedding")
        self._fetcher = ThreadPoolExecutor(FETCHERS, "fetching")
        self._waiting = 0

    @property
    def handlers(self) -> dict[str, wire.Handler]:
        """Calls by name."""
        return {
            "ready": self._ready,
            "submit": self._submit,
            "job": self._job,
            "watch": self._watch,
            "cancel": self._cancel,
            "embed": self._embed,
            "search": self._search,
            "delete": self._delete,
            "fetch": self._fetch,
        }

    async def start(self) -> None:
        """Open the store, which makes it where there is none, and begin to work."""
        await asyncio.to_thread(lambda: self._compiler.store)
        self._runner = asyncio.ensure_future(self._jobs.run())

    async def drain(self, seconds: float) -> None:
        """See ``Jobs.drain``."""
        await self._jobs.drain(seconds)

    async def close(self) -> None:
        """Wait for what runs, and close the store."""
        if self._runner is not None:
            await self._runner
        await asyncio.to_thread(self._turns.close)
        await asyncio.to_thread(self._compiler.close)  # which breaks off what is being fetched
        await asyncio.to_thread(self._fetcher.shutdown)

    def _compiled(self, request: CompileRequest) -> Compiled:
        """On the thread that compiles."""
        given: dict[str, Any] = {
            "queries": list(request.queries) or None,
            "fit_queries": list(request.fit_queries) or None,
            "min_agreement": request.min_agreement,
            "max_kl": request.max_kl,
            "name": request.name,
            **request.settings,
        }
        if request.target == "auto":
            return self._compiler.search(request.source, **given).compiled
        return self._compiler.compile(request.source, request.target, **given)

    async def _ready(self, _: Any) -> AsyncIterator[bool]:  # noqa: ANN401
        yield True

    async def _submit(self, given: Any) -> AsyncIterator[dict[str, Any]]:  # noqa: ANN401
        yield asdict(self._jobs.submit(CompileRequest(**given)))

    async def _job(self, job_id: str) -> AsyncIterator[dict[str, Any] | None]:
        job = self._jobs.job(job_id)
        yield None if job is None else asdict(job)

    async def _watch(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        async for job in self._jobs.watch(job_id):
            yield asdict(job)

    async def _cancel(self, job_id: str) -> AsyncIterator[bool]:
        yield self._jobs.cancel(job_id)

    async def _delete(self, given: Any) -> AsyncIterator[None]:  # noqa: ANN401
        store = self._compiler.store
        await asyncio.to_thread(store.delete, given["artifact"], given["everywhere"])
        yield None

    async def _fetch(self, name: str) -> AsyncIterator[bool]:
        header, loop = self._compiler.store.header, asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._fetcher, header, name)
        except NotFoundError:
            yield False
        else:
            yield True

    async def _embed(self, given: Any) -> AsyncIterator[list[list[float]]]:  # noqa: ANN401
        texts: list[str] = given["texts"]
        check_texts(texts)
        yield await self._queued(lambda: self._vectors(texts, given.get("client", "")))

    async def _search(self, given: Any) -> AsyncIterator[list[tuple[str, float]]]:  # noqa: ANN401
        def find() -> list[tuple[str, float]]:
            hits = self._prompts.search(given["query"], given["count"])
            return [(hit.prompt_hash, hit.cosine) for hit in hits]

        yield await self._queued(lambda: self._turns.run(given.get("client", ""), find))

    async def _vectors(self, texts: list[str], client: str) -> list[list[float]]:
        """A piece at a time, so that clients take turns."""
        found: list[list[float]] = []
        for start in range(0, len(texts), PIECE):
            found += await self._turns.run(
                client, partial(self._rows, texts[start : start + PIECE])
            )
        return found

    def _rows(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._encoder.embed(texts).tolist()
        return rows

    async def _queued(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        limit = self._config.serve.embed_queue
        if self._waiting >= limit:
            raise Busy(f"{self._waiting} texts and searches are waiting already.", 2.0)
        self._waiting += 1
        meter.gauge("queue_length", self._waiting, queue="embed")
        try:
            return await work()
        finally:
            self._waiting -= 1
            meter.gauge("queue_length", self._waiting, queue="embed")

    @cached_property
    def _encoder(self) -> Encoder:
        """The embedded encoder, loaded when it is first asked for."""
        return Encoder.load(device=self._config.model.device)

    @cached_property
    def _prompts(self) -> Prompts:
        settings = self._config
        provider = embed.provider(settings.embed, settings.model.device)
        return Prompts(self._compiler.store, provider)
