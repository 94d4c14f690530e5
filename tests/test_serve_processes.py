"""The generator and the compiler as real processes, at work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from processes import FOREVER, answer, chat, compiled, run, running, settings

from pcompiler.config import Config, EmbedConfig
from pcompiler.errors import Busy, ConfigError, InputError, NotFoundError
from pcompiler.serve.client import Client
from pcompiler.serve.contract import Piece
from pcompiler.serve.process import decode, encode
from pcompiler.serve.supervisor import Supervisor


@pytest.fixture(scope="module")
def supervisor(
    endless_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Supervisor]:
    config = settings(endless_folder, tmp_path_factory.mktemp("store") / "store")
    with Supervisor(config, tmp_path_factory.mktemp("run")) as made:
        made.wait_ready()
        asyncio.run(compiled(Client(made.folder), name="desk"))
        yield made


@pytest.fixture
def client(supervisor: Supervisor) -> Client:
    return Client(supervisor.folder)


def test_a_prompt_is_compiled_and_answers_chats(client: Client) -> None:
    async def work() -> None:
        job = await compiled(client, name="other", settings={"bits": 8})
        assert (job.status, job.error, job.cached) == ("done", None, False)
        said, end = await answer(client, chat(artifact="other", max_tokens=12))
        assert said
        assert end.answer_tokens <= 12
        assert (await answer(client, chat(artifact=job.artifact, max_tokens=12)))[0] == said
        assert (await compiled(client, settings={"bits": 8})).cached
        assert await client.job(job.id) == job
        assert await client.job("0" * 32) is None
        assert await client.ready() == {"generator": True, "compiler": True}
        assert job.artifact is not None
        await client.delete(job.artifact)
        with pytest.raises(NotFoundError):
            await answer(client, chat(artifact=job.artifact))

    run(work())


def test_errors_arrive_as_what_they_are(client: Client) -> None:
    async def work() -> None:
        with pytest.raises(InputError, match="empty"):
            await answer(client, chat(" "))
        with pytest.raises(NotFoundError, match="no artifact"):
            await answer(client, chat(artifact="0" * 24))
        with pytest.raises(NotFoundError, match="there is no job"):
            async for _ in client.watch("0" * 32):
                pass
        with pytest.raises(asyncio.TimeoutError):
            await answer(client, chat(max_tokens=1900, timeout_s=0.5))
        failed = await compiled(client, target="weights", max_kl=1e-9)
        assert failed.error is not None
        assert failed.error["type"] == "GateMissed"
        assert not await client.cancel(failed.id)

    run(work())


def test_chats_and_look_ups_of_jobs_go_on_while_a_compile_runs(client: Client) -> None:
    async def work() -> None:
        job = await running(client, target="hybrid", settings=FOREVER)
        start = time.perf_counter()
        for _ in range(20):
            state = await client.job(job.id)
            assert state is not None
            assert state.status == "running"
        assert time.perf_counter() - start < 10
        said = await asyncio.gather(
            *(answer(client, chat(f"{n}?", max_tokens=8)) for n in range(9))
        )
        assert all(end.answer_tokens for _, end in said)
        assert await client.cancel(job.id)
        states = [state async for state in client.watch(job.id)]
        assert states[-1].status == "cancelled"

    run(work())


def test_callers_that_leave_free_their_slots(client: Client) -> None:
    async def abandoned() -> None:
        async with aclosing(client.chat(chat(max_tokens=1900))) as items:
            async for item in items:
                assert isinstance(item, Piece)
                return

    async def work() -> None:
        for _ in range(4):  # more than there are slots
            await abandoned()
        tasks = [asyncio.ensure_future(answer(client, chat(max_tokens=1900))) for _ in range(4)]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        _, end = await answer(client, chat(max_tokens=3, timeout_s=30))
        assert end.answer_tokens <= 3

    run(work())


def test_settings_cross_to_a_process_as_they_are(tmp_path: Path) -> None:
    config = replace(settings(tmp_path, tmp_path), embed=EmbedConfig(base_url="http://é/v1"))
    assert "\n" not in encode(config)
    assert decode(encode(config)) == config


def test_a_folder_that_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long for sockets"):
        Supervisor(Config(), tmp_path / ("x" * 100))


@pytest.mark.model
def test_texts_are_embedded_and_prompts_found_while_a_compile_runs(client: Client) -> None:
    async def work() -> None:
        job = await running(client, target="hybrid", settings=FOREVER)
        texts = [f"text number {n}" for n in range(70)]
        rows, other = await asyncio.gather(client.embed(texts), client.embed(["the desk"]))
        assert [len(row) for row in (*rows, *other)] == [384] * 71
        assert all(abs(sum(x * x for x in row) - 1) < 1e-4 for row in rows)
        found = await client.search("when does the workshop open", 5)
        assert len(found) == 1
        assert -1 <= found[0][1] <= 1
        state = await client.job(job.id)
        assert state is not None
        assert state.status == "running"
        await client.cancel(job.id)
        with pytest.raises(InputError):
            await client.search(" ", 5)
        busy = await asyncio.gather(
            *(client.embed(["x" * 1000] * 256) for _ in range(40)), return_exceptions=True
        )
        assert any(isinstance(one, Busy) for one in busy)

    run(work())
