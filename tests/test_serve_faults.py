"""The generator and the compiler as real processes: killed, left behind, and told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import (
    BACK_S,
    FOREVER,
    ROOT,
    answer,
    chat,
    compiled,
    lives,
    once_back,
    run,
    running,
    settings,
    sound,
)

from pcompiler.errors import Gone, PcompilerError
from pcompiler.serve.client import Client
from pcompiler.serve.contract import End, Piece
from pcompiler.serve.process import encode
from pcompiler.serve.supervisor import Supervisor
from pcompiler.store.db import Store


def test_a_killed_generator_fails_its_chats_and_comes_back(
    endless_folder: Path, tmp_path: Path
) -> None:
    async def work(supervisor: Supervisor) -> None:
        client = Client(supervisor.folder)
        await compiled(client, name="desk")
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

    config = settings(endless_folder, tmp_path / "store")
    with Supervisor(config, tmp_path / "run") as supervisor:
        supervisor.wait_ready()
        run(work(supervisor))
    sound(config)


def test_a_killed_compiler_loses_its_jobs_and_nothing_that_was_stored(
    endless_folder: Path, tmp_path: Path
) -> None:
    config = settings(endless_folder, tmp_path / "store")

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
        lost = await once_back(lambda: client.job(job.id))
        assert lost is not None
        assert lost.status == "failed"
        assert (await compiled(client)).artifact == kept.artifact
        later = await compiled(client, settings={"bits": 8}, name="later")
        assert later.status == "done"
        assert (await answer(client, chat(artifact="later", max_tokens=3)))[1].answer_tokens

    with Supervisor(config, tmp_path / "run") as supervisor:
        supervisor.wait_ready()
        run(work(supervisor))
    sound(config)


def test_the_end_lets_answers_end_and_stores_nothing_by_half(
    endless_folder: Path, tmp_path: Path
) -> None:
    config = settings(endless_folder, tmp_path / "store", drain_s=2, slots=7)

    async def work(supervisor: Supervisor) -> list[int | None]:
        client = Client(supervisor.folder)
        await compiled(client, name="desk")
        job = await running(client, target="hybrid", settings=FOREVER)
        items = client.chat(chat(max_tokens=30))
        await anext(items)
        others = [client.chat(chat(max_tokens=1900)) for _ in range(6)]
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
    endless_folder: Path, tmp_path: Path
) -> None:
    config = settings(endless_folder, tmp_path / "store", drain_s=1)
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
