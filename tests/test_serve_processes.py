"""The generator and the compiler as real processes behind their client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcompiler.config import Config, ModelConfig, ProbeConfig, StoreConfig
from pcompiler.serve.client import Client
from pcompiler.serve.contract import ChatRequest, CompileRequest, End, Job, Message
from pcompiler.serve.supervisor import Supervisor
from pcompiler.serving import ServeConfig

PROMPT = "You are the desk of a workshop. It opens at nine and closes at five."


@pytest.fixture(scope="module")
def server_config(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config(
        model=ModelConfig(str(model_folder), "cpu"),
        probes=ProbeConfig(self_study=3, fitting=18, query_tokens=8, answer_tokens=6),
        store=StoreConfig(path=str(tmp_path_factory.mktemp("store") / "store")),
        serve=ServeConfig(slots=3, drain_s=5, generator_threads=1, compiler_threads=1),
    )


@pytest.fixture(scope="module")
def supervisor(
    server_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Supervisor]:
    with Supervisor(server_config, tmp_path_factory.mktemp("run")) as made:
        made.wait_ready()
        yield made


@pytest.fixture
def client(supervisor: Supervisor) -> Client:
    return Client(supervisor.folder)


def chat(text: str, artifact: str | None = None, **settings: object) -> ChatRequest:
    return ChatRequest([Message("user", text)], artifact, **settings)  # type: ignore[arg-type]


async def answer(client: Client, request: ChatRequest) -> tuple[str, End]:
    said = ""
    async for item in client.chat(request):
        if isinstance(item, End):
            return said, item
        said += item.text
    raise AssertionError("no end came")


async def compiled(client: Client, **settings: object) -> Job:
    job = await client.submit(CompileRequest(PROMPT, **settings))  # type: ignore[arg-type]
    return [state async for state in client.watch(job.id)][-1]


def test_a_prompt_is_compiled_and_answers_chats(client: Client) -> None:
    async def run() -> None:
        job = await compiled(client, name="desk")
        assert (job.status, job.error) == ("done", None)
        said, end = await answer(client, chat("When?", "desk", max_tokens=12))
        assert said
        assert end.answer_tokens <= 12
        again, _ = await answer(client, chat("When?", job.artifact, max_tokens=12))
        assert again == said
        assert (await compiled(client)).cached

    asyncio.run(run())
