"""Jobs for tests: a compile that is real, and stops where a test wants it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pcompiler import progress
from pcompiler.compiler import Compiler
from pcompiler.pipeline import Compiled
from pcompiler.serve.compiling import Compiling
from pcompiler.serve.contract import CompileRequest, Job
from pcompiler.serve.jobs import Jobs
from pcompiler.serving import ServeConfig

PROMPT = "You are the desk of a workshop. It opens at nine and closes at five."
WRITTEN = "once the artifact is in the store"


@dataclass
class Held:
    """Stops a compile where it tells of a stage, until it may go on."""

    compiler: Compiler
    stage: str | None = None
    done: int = 0  # of this stage, at least

    def __post_init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.order: list[str] = []
        self._part = Compiling(self.compiler.config, self.compiler.model)
        self._part._compiler = self.compiler

    def compile(self, request: CompileRequest) -> Compiled:
        self.order.append(request.client)
        tell = progress._listener.get()
        assert tell is not None

        def hear(label: str, done: int, total: int) -> None:
            here = label == self.stage and done >= self.done
            here = here or (self.stage == WRITTEN and bool(stored(self)))
            if here and not self.go_on.is_set():
                self.reached.set()
                assert self.go_on.wait(30)
            tell(label, done, total)

        with progress.heard(hear):
            return self._part._compiled(request)


def during(held: Held, work: Callable[[Jobs], Awaitable[None]], **settings: Any) -> None:
    """Run with jobs that are worked off."""

    async def run() -> None:
        jobs = Jobs(held.compile, ServeConfig(**settings))
        runner = asyncio.ensure_future(jobs.run())
        try:
            await asyncio.wait_for(work(jobs), 60)
        finally:
            held.go_on.set()
            await jobs.drain(30)
            await runner

    asyncio.run(run())


async def over(jobs: Jobs, job: Job) -> list[Job]:
    return [state async for state in jobs.watch(job.id)]


async def reached(held: Held) -> None:
    assert await asyncio.to_thread(held.reached.wait, 30)


def stored(held: Held) -> list[str]:
    return [header.id for header in held.compiler.store.headers()]
