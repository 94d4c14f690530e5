"""The routes behind the adapter, described by OpenAPI; every error in one form."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from pcompiler import __version__
from pcompiler.errors import PcompilerError
from pcompiler.serve.http import artifacts, chat, compiles, meaning, metered, models, page, prompts
from pcompiler.serve.http.refusals import Refusal, refusal_of, retry_after
from pcompiler.serve.http.schema import PROBLEMS, Health
from pcompiler.serve.http.services import Services
from pcompiler.serve.metrics import Exporter

READY_S = 2.0  # that the processes behind may take to say that they are


def application(services: Services, exporter: Exporter, *, keyed: bool) -> FastAPI:
    """The application.

    Args:
        services: what it works with.
        exporter: of the metrics.
        keyed: whether clients need a key; it is checked before requests come here.
    """
    app = FastAPI(
        title="pcompiler",
        version=__version__,
        description="Compiles prompts, keeps what comes of them, and chats with it in place.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if keyed else [],
        separate_input_output_schemas=False,
    )
    for part in (artifacts, prompts, compiles, meaning, models, chat):
        app.include_router(part.router(services))
    app.include_router(_health(services))
    app.include_router(metered.router(exporter))
    app.include_router(page.router())
    _answer_errors(app)
    return app


def _health(services: Services) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", response_model=Health)
    async def healthy() -> dict[str, Any]:
        """Whether this worker answers."""
        return {"status": "ok", "processes": {}}

    @routes.get("/readyz", response_model=Health, responses={**PROBLEMS, 503: {"model": Health}})
    async def ready(response: Response) -> dict[str, Any]:
        """Whether the store and every process behind answer."""
        processes = {"store": False}
        try:
            processes |= await asyncio.wait_for(services.backend.ready(), READY_S)
            processes["store"] = services.view.store is not None
        except (PcompilerError, asyncio.TimeoutError, OSError):
            processes["backend"] = processes.get("backend", False)
        fit = all(processes.values())
        if not fit:
            response.status_code = 503
            response.headers["retry-after"] = "1"
        return {"status": "ok" if fit else "starting", "processes": processes}

    return routes


def _answer_errors(app: FastAPI) -> None:
    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        kind = "application/json"
        return Response(error.content, error.status, dict(error.headers), kind)

    def of_library(request: Request, error: Exception) -> Response:
        assert isinstance(error, PcompilerError)
        return refused(request, refusal_of(error))

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        message = f"{where or 'the request'}: {first['msg']}."
        return refused(request, Refusal(400, message, code="invalid", param=where or None))

    def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path[:200]}: {error.detail}. See /openapi.json."
        headers = dict(error.headers or {})
        return refused(request, Refusal(error.status_code, message, code="http", headers=headers))

    def slow(request: Request, _: Exception) -> Response:
        message = "it took too long; ask for less, or come back when the server does less."
        headers = retry_after(5.0)
        return refused(request, Refusal(503, message, "server_error", "timeout", headers=headers))

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(PcompilerError, of_library)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(asyncio.TimeoutError, slow)
