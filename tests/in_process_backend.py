"""The contract's backend within one worker: a small model that really runs, on one thread."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import torch

from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.errors import Busy, NotFoundError, PcompilerError
from pcompiler.serve.contract import (
    FINAL,
    ChatRequest,
    CompileRequest,
    End,
    Job,
    Piece,
)
from pcompiler.serve.http.refusals import refusal_of
from pcompiler.session import Session
from pcompiler.template import Template

QUEUE = 8  # chats and compiles that wait, at most


class InProcess:
    """Everything on one thread behind a bounded queue; see ``contract.Backend``."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._thread = ThreadPoolExecutor(1)
        self._waiting = 0
        self._jobs: dict[str, Job] = {}
        self._stops: dict[str, threading.Event] = {}
        self._changed = asyncio.Condition()

    @cached_property
    def _compiler(self) -> Compiler:
        torch.set_num_threads(1)
        return Compiler(config=self._config)

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if self._waiting >= QUEUE:
            raise Busy(f"{QUEUE} requests are waiting already.", 2.0)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _run(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def chat(self, request: ChatRequest) -> AsyncIterator[Piece | End]:
        stop, loop = threading.Event(), asyncio.get_running_loop()
        items: asyncio.Queue[Any] = asyncio.Queue()

        def say(item: Any) -> None:
            loop.call_soon_threadsafe(items.put_nowait, item)

        with self._queued():
            work = self._thread.submit(self._answer, request, stop, say)
            try:
                while not isinstance(item := await items.get(), End):
                    if isinstance(item, BaseException):
                        raise item
                    yield item
                yield item
            finally:
                stop.set()
                await asyncio.wrap_future(work)

    def _session(self, request: ChatRequest) -> tuple[Session, int]:
        compiler = self._compiler
        if request.artifact is not None:
            kept = compiler.store.header(request.artifact).kept_tokens
            return compiler.session(request.artifact), kept
        return compiler.full_prompt("You answer."), 0

    def _answer(self, request: ChatRequest, stop: threading.Event, say: Any) -> None:
        start, first, count = time.perf_counter(), None, 0
        try:
            if stop.is_set():
                return
            session, kept = self._session(request)
            template: Template = session._template
            query = request.messages[-1].content
            for text in session.stream(
                query,
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
            ):
                first = first or time.perf_counter() - start
                count += 1
                say(Piece(text, count))
                if stop.is_set():
                    return
            reason: Any = "length" if count >= request.max_tokens else "stop"
            prompt = kept + len(template.query_ids(query))
            say(End(reason, prompt, kept, count, 0.0, first or 0.0))
        except Exception as e:
            say(e)

    async def embed(self, texts: Sequence[str], client: str = "") -> list[list[float]]:  # noqa: ARG002
        from pcompiler.embed.encoder import Encoder

        def run() -> list[list[float]]:
            found: list[list[float]] = Encoder.load().embed(texts).tolist()
            return found

        with self._queued():
            result: list[list[float]] = await self._run(run)
            return result

    async def submit(self, request: CompileRequest) -> Job:
        if self._waiting >= QUEUE:
            raise Busy(f"{QUEUE} requests are waiting already.", 2.0)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        job = Job(uuid.uuid4().hex, "queued", created=now)
        self._jobs[job.id], self._stops[job.id] = job, threading.Event()
        task = asyncio.ensure_future(self._compile(job, request))
        task.add_done_callback(lambda done: done.exception())
        return job

    async def _tell(self, job: Job) -> None:
        async with self._changed:
            self._jobs[job.id] = job
            self._changed.notify_all()

    async def _compile(self, job: Job, request: CompileRequest) -> None:
        start = time.perf_counter()

        def run() -> Any:
            if self._stops[job.id].is_set():
                return None
            return self._compiler.compile(
                request.source,
                request.target,
                list(request.queries) or None,
                request.min_agreement,
                request.max_kl,
                list(request.fit_queries) or None,
                request.name,
                **request.settings,
            )

        with self._queued():
            await self._tell(replace(job, status="running", stage="compiling"))
            try:
                done = await self._run(run)
            except PcompilerError as e:
                fault = {
                    "type": type(e).__name__,
                    "message": str(e),
                    "status": refusal_of(e).status,
                }
                await self._tell(replace(job, status="failed", error=fault))
                return
        took = time.perf_counter() - start
        if done is None:
            await self._tell(replace(job, status="cancelled", elapsed_s=took))
            return
        await self._tell(
            replace(job, status="done", artifact=done.header.id, cached=done.cached, elapsed_s=took)
        )

    async def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        seen = None
        while True:
            async with self._changed:
                while self._jobs[job_id] == seen:
                    await self._changed.wait()
                seen = self._jobs[job_id]
            yield seen
            if seen.status in FINAL:
                return

    async def cancel(self, job_id: str) -> bool:
        if self._jobs[job_id].status in FINAL:
            return False
        self._stops[job_id].set()
        return True

    async def search(self, query: str, count: int) -> list[tuple[str, float]]:
        from pcompiler.embed.encoder import Encoder
        from pcompiler.nearest import Prompts

        def run() -> list[tuple[str, float]]:
            hits = Prompts(self._compiler.store, Encoder.load()).search(query, count)
            return [(hit.prompt_hash, hit.cosine) for hit in hits]

        found: list[tuple[str, float]] = await self._run(run)
        return found

    async def delete(self, artifact_id: str, everywhere: bool = False) -> None:
        await self._run(lambda: self._compiler.store.delete(artifact_id, everywhere))

    async def fetch(self, name: str) -> bool:
        def work() -> bool:
            try:
                self._compiler.store.header(name)
            except NotFoundError:
                return False
            return True

        found: bool = await self._run(work)
        return found

    async def ready(self) -> Mapping[str, bool]:
        store = await self._run(lambda: self._compiler.store)
        return {"model": store is not None}
