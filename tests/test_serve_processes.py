"""The generator and the compiler as real processes: at work, killed, and told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import endless

from pcompiler.config import Config, EmbedConfig, ModelConfig, ProbeConfig, StoreConfig
from pcompiler.errors import Busy, ConfigError, Gone, InputError, NotFoundError, PcompilerError
from pcompiler.serve.client import Client
from pcompiler.serve.contract import Backend, ChatRequest, CompileRequest, End, Job, Message, Piece
from pcompiler.serve.process import decode, encode
from pcompiler.serve.supervisor import Supervisor
from pcompiler.serving import ServeConfig
from pcompiler.store.check import check
from pcompiler.store.db import Store

PROMPT = "You are the desk of a workshop. It opens at nine and closes at five."
ROOT = Path(__file__).parent.parent
BACK_S = 60.0  # a process takes to start, on a machine that is busy
FOREVER: dict[str, Any] = {"refine": 100_000}  # a compile that takes minutes


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, model = tmp_path_factory.mktemp("endless"), endless()
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def settings(model_folder: Path, store: Path, **serve: Any) -> Config:
    given: dict[str, Any] = {"slots": 3, "drain_s": 5, "generator_threads": 1}
    return Config(
        model=ModelConfig(str(model_folder), "cpu"),
        probes=ProbeConfig(self_study=3, fitting=18, query_tokens=8, answer_tokens=6),
        store=StoreConfig(path=str(store)),
        serve=ServeConfig(**{**given, "compiler_threads": 1, **serve}),
    )


@pytest.fixture(scope="module")
def supervisor(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Supervisor]:
    config = settings(model_folder, tmp_path_factory.mktemp("store") / "store")
    with Supervisor(config, tmp_path_factory.mktemp("run")) as made:
        made.wait_ready()
        asyncio.run(compiled(Client(made.folder), name="desk"))
        yield made


@pytest.fixture
def client(supervisor: Supervisor) -> Client:
    return Client(supervisor.folder)


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


def test_a_killed_generator_fails_its_chats_and_comes_back(
    client: Client, supervisor: Supervisor
) -> None:
    async def work() -> None:
        before = await answer(client, chat(max_tokens=9))
        pids = supervisor.processes
        pid = pids["generator"]
        assert pid is not None
        items = client.chat(chat(max_tokens=1900))
        assert isinstance(await anext(items), Piece)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Gone, match="generator died") as gone:
            async for _ in items:
                pass
        assert gone.value.retry_after_s > 0
        with pytest.raises(Gone):
            await answer(client, chat())
        assert (await client.ready())["generator"] is False
        after = await once_back(lambda: answer(client, chat(max_tokens=9)))
        assert after[0] == before[0]
        assert supervisor.processes["compiler"] == pids["compiler"]
        assert supervisor.processes["generator"] != pid

    run(work())


def test_a_killed_compiler_loses_its_jobs_and_nothing_that_was_stored(
    model_folder: Path, tmp_path: Path
) -> None:
    config = settings(model_folder, tmp_path / "store")

    async def work(supervisor: Supervisor) -> None:
        client = Client(supervisor.folder)
        kept = await compiled(client, name="desk")
        job = await running(client, target="hybrid", settings=FOREVER)
        pid = supervisor.processes["compiler"]
        assert pid is not None
        states = client.watch(job.id)
        await anext(states)
        chatting = asyncio.ensure_future(answer(client, chat(max_tokens=40)))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Gone, match="compiler died"):
            async for _ in states:
                pass
        assert (await chatting)[1].answer_tokens  # the generator did not notice
        assert await once_back(lambda: client.job(job.id)) is None
        assert (await compiled(client)).artifact == kept.artifact
        later = await compiled(client, settings={"bits": 8}, name="later")
        assert later.status == "done"
        assert (await answer(client, chat(artifact="later", max_tokens=3)))[1].answer_tokens

    with Supervisor(config, tmp_path / "run") as supervisor:
        supervisor.wait_ready()
        run(work(supervisor))
    sound(config)


def test_the_end_lets_answers_end_and_stores_nothing_by_half(
    model_folder: Path, tmp_path: Path
) -> None:
    config = settings(model_folder, tmp_path / "store", drain_s=2)

    async def work(supervisor: Supervisor) -> list[int | None]:
        client = Client(supervisor.folder)
        await compiled(client, name="desk")
        job = await running(client, target="hybrid", settings=FOREVER)
        items = client.chat(chat(max_tokens=30))
        await anext(items)
        others = [client.chat(chat(max_tokens=1900)) for _ in range(2)]
        for other in others:
            await anext(other)
        states, pids = client.watch(job.id), [*supervisor.processes.values()]
        await anext(states)
        closing = asyncio.ensure_future(asyncio.to_thread(supervisor.close))
        rest = [item async for item in items]
        assert isinstance(rest[-1], End)  # under way before, and ended in time
        for other in others:  # they would have taken longer
            with pytest.raises(Gone, match="stopping"):
                [item async for item in other]
        with pytest.raises(Gone):
            await answer(client, chat())
        assert [state async for state in states][-1].status == "cancelled"
        await closing
        return pids

    start = time.monotonic()
    with Supervisor(config, tmp_path / "run") as supervisor:
        supervisor.wait_ready()
        pids = run(work(supervisor))
    assert not any(lives(pid) for pid in pids if pid)
    assert time.monotonic() - start < 100
    sound(config)
    with Store(config.store.folder, "read") as store:
        assert [header.target for header in store.headers()] == ["kv"]


OWNER = """
import sys, time
from pathlib import Path
from pcompiler.serve.process import decode
from pcompiler.serve.supervisor import Supervisor
with Supervisor(decode(sys.stdin.readline()), Path(sys.argv[1])) as supervisor:
    supervisor.wait_ready()
    print(*supervisor.processes.values(), flush=True)
    time.sleep(600)
"""


def test_processes_do_not_outlive_a_supervisor_that_is_killed(
    model_folder: Path, tmp_path: Path
) -> None:
    config = settings(model_folder, tmp_path / "store", drain_s=1)
    command = [sys.executable, "-c", OWNER, str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write(encode(config) + "\n")
        owner.stdin.flush()
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(lives, pids))
        owner.kill()
    end = time.monotonic() + 20
    while any(map(lives, pids)):
        assert time.monotonic() < end
        time.sleep(0.05)
    sound(config)


def test_a_process_that_cannot_start_is_tried_again_and_the_end_is_still_in_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path / "no model", tmp_path / "store")
    with Supervisor(config, tmp_path / "run") as supervisor:
        with pytest.raises(PcompilerError, match="were not there after"):
            supervisor.wait_ready(0.1)
        end, seen = time.monotonic() + BACK_S, set()
        while len(seen) < 2:
            assert time.monotonic() < end
            seen |= {supervisor.processes["generator"]} - {None}
            time.sleep(0.02)
    assert supervisor.processes == {"generator": None, "compiler": None}
    assert "no model" in capfd.readouterr().err


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
