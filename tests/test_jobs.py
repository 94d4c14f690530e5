"""Compiles one after the other, watched, stopped, remembered; with a compiler that is real."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from reading import Reading

from pcompiler import progress
from pcompiler.compiler import Compiler
from pcompiler.errors import Busy, Gone, NotFoundError
from pcompiler.pipeline import Compiled
from pcompiler.serve.compiling import Compiling
from pcompiler.serve.contract import CompileRequest, Job
from pcompiler.serve.history import History
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


@pytest.fixture
def held(compiler: Compiler) -> Held:
    return Held(compiler)


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


def test_a_job_tells_its_stages_and_ends_with_the_artifact(held: Held) -> None:
    async def work(jobs: Jobs) -> None:
        states = await over(jobs, jobs.submit(CompileRequest(PROMPT, "hybrid", name="desk")))
        assert [s.status for s in states if s.status != "running"] == ["queued", "done"]
        stages = list(dict.fromkeys(s.stage for s in states if s.stage))
        assert "fidelity" in stages
        assert len(stages) >= 5
        assert all(0 <= s.done <= s.total for s in states if s.total)
        last = states[-1]
        assert last.artifact == held.compiler.store.header("desk").id
        assert (last.cached, last.stage, last.error) == (False, "", None)
        assert last.elapsed_s > 0
        assert jobs.job(last.id) == last
        (again,) = [
            s
            for s in await over(jobs, jobs.submit(CompileRequest(PROMPT, "hybrid")))
            if s.status == "done"
        ]
        assert again.cached

    during(held, work)


def test_what_the_gates_refuse_is_a_failed_job_with_the_figures(held: Held) -> None:
    async def work(jobs: Jobs) -> None:
        request = CompileRequest(PROMPT, "weights", max_kl=1e-9)
        last = (await over(jobs, jobs.submit(request)))[-1]
        assert last.status == "failed"
        assert last.error is not None
        assert (last.error["type"], last.error["status"]) == ("GateMissed", 422)
        assert "nats per token, above the 1e-09" in last.error["message"]
        bad = (await over(jobs, jobs.submit(CompileRequest(PROMPT, "nothing"))))[-1]
        assert bad.error is not None
        assert bad.error["status"] == 400

    during(held, work)
    assert stored(held) == []


def test_auto_finds_the_smallest_that_meets_the_gates(held: Held) -> None:
    async def work(jobs: Jobs) -> None:
        request = CompileRequest(PROMPT, "auto", max_kl=1e-3, name="small")
        last = (await over(jobs, jobs.submit(request)))[-1]
        assert last.status == "done"
        assert held.compiler.store.header("small").id == last.artifact

    during(held, work)
    assert len(stored(held)) == 1  # what was tried on the way is gone


@pytest.mark.parametrize(
    ("target", "stage"),
    [
        ("kv", "prefill"),
        ("hybrid", "fitting answers"),
        ("kv", "fidelity"),
        ("text", WRITTEN),  # while its times are taken
    ],
)
def test_a_cancelled_job_stores_nothing(held: Held, target: str, stage: str) -> None:
    held.stage = stage

    async def work(jobs: Jobs) -> None:
        job = jobs.submit(CompileRequest(PROMPT, target))
        await reached(held)
        running = jobs.job(job.id)
        assert running is not None
        assert running.status == "running"  # the loop answers beside the compile
        assert jobs.cancel(job.id)
        held.go_on.set()
        assert (await over(jobs, job))[-1].status == "cancelled"
        assert not jobs.cancel(job.id)

    during(held, work)
    assert stored(held) == []


def test_a_search_that_is_cancelled_keeps_none_of_what_it_tried(held: Held) -> None:
    held.stage, held.done = "searching", 1

    async def work(jobs: Jobs) -> None:
        job = jobs.submit(CompileRequest(PROMPT, "auto", max_kl=0.5))
        await reached(held)
        assert jobs.cancel(job.id)
        held.go_on.set()
        assert (await over(jobs, job))[-1].status == "cancelled"

    during(held, work)
    assert stored(held) == []


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


def test_how_jobs_ended_is_told_as_metrics(held: Held, metered: Reading) -> None:
    """pcompiler_compile_jobs_total, and pcompiler_queue_length of compiles."""
    held.stage = "prefill"

    async def work(jobs: Jobs) -> None:
        first = jobs.submit(CompileRequest(PROMPT))
        await reached(held)
        queued = [jobs.submit(CompileRequest(PROMPT, c, client=c)) for c in ("kv", "none")]
        with pytest.raises(Busy):
            jobs.submit(CompileRequest(PROMPT))
        jobs.cancel(queued[0].id)
        held.go_on.set()
        for job in (first, queued[1]):
            await over(jobs, job)

    with metered.watching():
        during(held, work, compile_queue=2)
    for outcome in ("done", "failed", "cancelled", "refused"):
        assert metered.change("compile_jobs", outcome=outcome) == 1, outcome


def test_bars_are_heard_in_their_own_thread_only() -> None:
    heard: list[tuple[str, int, int]] = []

    def other() -> None:
        with progress.bar(3, "elsewhere") as shown:
            shown.update(3)

    with progress.heard(lambda *told: heard.append(told)):
        with progress.bar(4, "here") as shown:
            shown.update()
            shown.update(3)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert heard == [("here", 0, 4), ("here", 1, 4), ("here", 4, 4)]
