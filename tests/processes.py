"""The processes behind the workers, for tests: settings, calls, and how they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from pcompiler.config import Config, ModelConfig, ProbeConfig, StoreConfig
from pcompiler.errors import Gone
from pcompiler.serve.client import Client
from pcompiler.serve.contract import Backend, ChatRequest, CompileRequest, End, Job, Message
from pcompiler.serving import ServeConfig
from pcompiler.store.check import check
from pcompiler.store.db import Store

PROMPT = "You are the desk of a workshop. It opens at nine and closes at five."
ROOT = Path(__file__).parent.parent
BACK_S = 60.0  # a process takes to start, on a machine that is busy
FOREVER: dict[str, Any] = {"refine": 100_000}  # a compile that takes minutes


def settings(endless_folder: Path, store: Path, **serve: Any) -> Config:
    given: dict[str, Any] = {"slots": 3, "drain_s": 5, "generator_threads": 1}
    return Config(
        model=ModelConfig(str(endless_folder), "cpu"),
        probes=ProbeConfig(self_study=3, fitting=18, query_tokens=8, answer_tokens=6),
        store=StoreConfig(path=str(store)),
        serve=ServeConfig(**{**given, "compiler_threads": 1, **serve}),
    )


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 120))


def chat(text: str = "When?", artifact: str | None = "desk", **given: Any) -> ChatRequest:
    return ChatRequest([Message("user", text)], artifact, **given)


async def answer(client: Backend, request: ChatRequest) -> tuple[str, End]:
    said = ""
    async for item in client.chat(request):
        if isinstance(item, End):
            return said, item
        said += item.text
    raise AssertionError("no end came")


async def compiled(client: Client, **given: Any) -> Job:
    job = await client.submit(CompileRequest(PROMPT, **given))
    return [state async for state in client.watch(job.id)][-1]


async def running(client: Client, **given: Any) -> Job:
    """A job that has got so far that it fits."""
    job = await client.submit(CompileRequest(PROMPT, **given))
    async for state in client.watch(job.id):
        assert state.status in ("queued", "running"), state
        if state.stage == "refining" and state.done > 2:
            return state
    raise AssertionError("it ended")


async def once_back(work: Callable[[], Awaitable[Any]]) -> Any:
    """What it returns, as soon as it is not Gone."""

    async def again() -> Any:
        while True:
            with suppress(Gone):
                return await work()
            await asyncio.sleep(0.1)

    return await asyncio.wait_for(again(), BACK_S)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def sound(config: Config) -> None:
    """The store is whole, and free to be written to."""
    folder = config.store.folder
    assert check(folder, config.store, mend=False).damage == []
    with Store(folder):
        pass
