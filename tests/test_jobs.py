"""Compiles one after the other, watched and stopped; with a compiler that is real."""

from __future__ import annotations

import pytest
from held import PROMPT, WRITTEN, Held, during, over, reached, stored
from reading import Reading

from pcompiler.compiler import Compiler
from pcompiler.errors import Busy
from pcompiler.serve.contract import CompileRequest
from pcompiler.serve.jobs import Jobs


@pytest.fixture
def held(compiler: Compiler) -> Held:
    return Held(compiler)


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
