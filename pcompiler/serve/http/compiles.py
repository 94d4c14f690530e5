"""Routes that compile, and that tell how far a compile is."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse

from pcompiler.config import TargetConfig
from pcompiler.errors import ConfigError
from pcompiler.serve.contract import FINAL, CompileRequest, Job
from pcompiler.serve.http.events import KIND, Events, event
from pcompiler.serve.http.refusals import Refusal, refusal_of_job
from pcompiler.serve.http.schema import JOB, PROBLEMS, CompileBody, JobShown
from pcompiler.serve.http.services import Services, client_of
from pcompiler.store.names import full_name

JobId = Annotated[str, Path(pattern=JOB)]


def request_of(body: CompileBody, client: str, timeout_s: float) -> CompileRequest:
    """What the compiler is asked for.

    Raises:
        InputError, ConfigError: a name or settings that cannot be.
    """
    if body.name is not None:
        full_name(body.name)
    settings = body.settings.model_dump(exclude_none=True)
    TargetConfig(**settings)
    if body.target == "auto" and body.min_agreement is None and body.max_kl is None:
        raise ConfigError("target auto needs a gate: give min_agreement, max_kl or both.")
    asked = body.model_dump(exclude={"settings", "wait"})
    return CompileRequest(**asked, settings=settings, client=client, timeout_s=timeout_s)


def shown(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    error = None
    if job.error is not None:
        error = {
            "type": str(job.error.get("type")),
            "message": str(job.error.get("message")),
            "status": int(job.error.get("status") or 500),
        }
    return {**asdict(dataclasses.replace(job, error=None)), "error": error}


async def told(jobs: AsyncIterator[Job]) -> AsyncIterator[bytes]:
    """A job's states as events, each named by its status."""
    async for job in jobs:
        yield event(json.dumps(shown(job)), job.status)
        if job.status in FINAL:
            return


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["compile"], responses={**PROBLEMS})
    backend, limits = services.backend, services.config.serve

    async def over(job: Job) -> Job:
        """The job once it is over; whoever waits for it and goes away takes it along."""
        try:
            async with aclosing(backend.watch(job.id)) as states:  # type: ignore[type-var]
                async for state in states:
                    if state.status in FINAL:
                        return state
        except asyncio.CancelledError:
            await backend.cancel(job.id)
            raise
        raise Refusal(503, "the job's process went away.", "server_error", "unavailable")

    @routes.post(
        "/v1/compile",
        response_model=JobShown,
        responses={202: {"model": JobShown, "description": "Under way: see GET /v1/jobs/{id}."}},
    )
    async def compile_prompt(body: CompileBody, request: Request) -> Response:
        """Compile a prompt, or find it compiled already."""
        asked = request_of(body, client_of(request), limits.compile_s)
        await services.tokens.check([body.source], limits.prompt_tokens, "the prompt", "source")
        queries = [*body.queries, *body.fit_queries]
        await services.tokens.check(queries, limits.prompt_tokens, "the list of queries", "queries")
        job = await backend.submit(asked)
        if not body.wait:
            return JSONResponse(shown(job), 202, {"location": f"/v1/jobs/{job.id}"})
        job = await over(job)
        if job.status != "done":
            raise refusal_of_job(
                job.error or {"message": f"the job was {job.status}.", "status": 409}
            )
        await services.view.fresh()
        return JSONResponse(shown(job))

    async def found(job_id: str) -> Job:
        job = await backend.job(job_id)
        if job is None:
            raise Refusal(404, f"there is no job {job_id!r}, or it is long over.", code="not_found")
        return job

    @routes.get(
        "/v1/jobs/{job}",
        response_model=JobShown,
        responses={200: {"content": {KIND: {"schema": {"type": "string"}}}}},
    )
    async def show_job(job: JobId, accept: Annotated[str | None, Header()] = None) -> Response:
        """Where a compile stands; with Accept: text/event-stream all that it does until its end."""
        known = await found(job)
        if KIND not in (accept or ""):
            return JSONResponse(shown(known), headers={"vary": "accept"})
        states = backend.watch(job)
        return Events(told(states), states)

    @routes.delete("/v1/jobs/{job}", response_model=JobShown)
    async def cancel_job(job: JobId) -> Response:
        """Stop a compile before its next stage; nothing is stored."""
        await found(job)
        if not await backend.cancel(job):
            raise Refusal(409, f"job {job} was over already.", code="over")
        return JSONResponse(shown(await found(job)))

    return routes
