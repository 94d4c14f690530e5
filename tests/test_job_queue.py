"""Who waits for a compile, in which order, for how long; what is known once it is over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from held import PROMPT, Held, during, over, reached, stored

from pcompiler.compiler import Compiler
from pcompiler.errors import Busy, Gone, NotFoundError
from pcompiler.serve.contract import CompileRequest, Job
from pcompiler.serve.history import History
from pcompiler.serve.jobs import Jobs
from pcompiler.serving import ServeConfig


@pytest.fixture
def held(compiler: Compiler) -> Held:
    return Held(compiler)


def test_clients_take_turns_and_who_waits_can_be_cancelled(held: Held) -> None:
    held.stage = "prefill"

    async def work(jobs: Jobs) -> None:
        first = jobs.submit(CompileRequest(PROMPT, client="a"))
        await reached(held)
        queued = [jobs.submit(CompileRequest(PROMPT, client=c)) for c in "aaab"]
        assert jobs.cancel(queued[0].id)
        assert (await over(jobs, queued[0]))[-1].status == "cancelled"
        held.go_on.set()
        for job in (first, *queued[1:]):
            assert (await over(jobs, job))[-1].status == "done"

    during(held, work)
    assert held.order == ["a", "a", "b", "a"]


def test_a_full_queue_is_said_and_a_late_job_fails(held: Held) -> None:
    held.stage = "prefill"

    async def work(jobs: Jobs) -> None:
        first = jobs.submit(CompileRequest(PROMPT))
        await reached(held)
        late = jobs.submit(CompileRequest(PROMPT, timeout_s=0.01))
        with pytest.raises(Busy, match="1 compiles are waiting"):
            jobs.submit(CompileRequest(PROMPT))
        await asyncio.sleep(0.05)
        held.go_on.set()
        await over(jobs, first)
        last = (await over(jobs, late))[-1]
        assert last.error is not None
        assert (last.status, last.error["status"]) == ("failed", 504)

    during(held, work, compile_queue=1)


def test_jobs_that_are_over_are_remembered_for_a_while(held: Held) -> None:
    async def work(jobs: Jobs) -> None:
        ids = []
        for _ in range(4):
            job = jobs.submit(CompileRequest(PROMPT))
            await over(jobs, job)
            ids.append(job.id)
        known = [jobs.job(i) for i in ids]
        assert [k is not None for k in known] == [False, False, True, True]
        with pytest.raises(NotFoundError, match="long over"):
            await over(jobs, replace(job, id=ids[0]))
        jobs._settings = replace(jobs._settings, job_history_s=1.0)
        await asyncio.sleep(1.1)
        assert jobs.job(ids[-1]) is None

    during(held, work, job_history=2)


def test_draining_cancels_who_waits_and_lets_the_running_one_end(held: Held) -> None:
    held.stage = "prefill"

    async def work(jobs: Jobs) -> None:
        running, waiting = (jobs.submit(CompileRequest(PROMPT)) for _ in range(2))
        await reached(held)
        drained = asyncio.ensure_future(jobs.drain(30))
        assert (await over(jobs, waiting))[-1].status == "cancelled"
        with pytest.raises(Gone):
            jobs.submit(CompileRequest(PROMPT))
        held.go_on.set()
        await drained
        assert (await over(jobs, running))[-1].status == "done"

    during(held, work)


def test_draining_cancels_what_does_not_end_in_time(held: Held) -> None:
    held.stage = "prefill"

    async def work(jobs: Jobs) -> None:
        running = jobs.submit(CompileRequest(PROMPT))
        await reached(held)
        await jobs.drain(0.1)
        held.go_on.set()
        assert (await over(jobs, running))[-1].status == "cancelled"

    during(held, work)
    assert stored(held) == []


def test_who_asks_after_the_compiler_died_is_told_how_the_job_ended_or_that_it_is_lost(
    tmp_path: Path,
) -> None:
    before = History(tmp_path / "jobs", 3)
    assert list(before.restore()) == []
    done = Job("b", "done", artifact="a" * 24)
    for job in (Job("old", "done"), Job("a", "queued"), Job("b", "queued"), Job("c", "queued")):
        before.note(job)
    before.note(done)
    with (tmp_path / "jobs").open("a") as file:
        file.write('{"id": "half')  # the process died here
    jobs = Jobs(lambda _: None, ServeConfig(), History(tmp_path / "jobs", 3))  # type: ignore
    assert jobs.job("b") == done
    assert jobs.job("old") is None
    lost = jobs.job("a")
    assert lost is not None
    assert lost.error is not None
    assert (lost.status, lost.error["status"]) == ("failed", 503)
    assert "send the prompt again" in lost.error["message"]


def test_the_history_of_jobs_stays_small(tmp_path: Path) -> None:
    history = History(tmp_path / "jobs", 5)
    for number in range(200):
        history.note(Job(str(number), "done"))
    assert len((tmp_path / "jobs").read_text().splitlines()) <= 20
    assert [job.id for job in History(tmp_path / "jobs", 5).restore()][-1] == "199"
