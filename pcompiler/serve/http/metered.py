"""What a worker's requests are to the metrics, and the routes that show all metrics."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Response

from pcompiler import meter
from pcompiler.measures import ROUTES
from pcompiler.meter import Report
from pcompiler.serve.http.schema import PROBLEMS
from pcompiler.serve.metrics import Exporter

GONE = 499  # the client went away before there was an answer
_METHODS = ("GET", "POST", "DELETE", "HEAD")
_PLAIN = frozenset(route for route in ROUTES if "{" not in route)
_NAMED = (
    (re.compile(r"/v1/artifacts/[^/]+"), "/v1/artifacts/{id}"),
    (re.compile(r"/v1/jobs/[^/]+"), "/v1/jobs/{id}"),
    (re.compile(r"/metrics/[^/]+"), "/metrics/{section}"),
    (re.compile(r"/v1/models/.+"), "/v1/models"),
    (re.compile(r"/page/[^/]+"), "/"),
)


def route_of(path: str) -> str:
    """The route of a path, of a bounded number of routes."""
    if path in _PLAIN:
        return path
    return next((route for pattern, route in _NAMED if pattern.fullmatch(path)), "other")


class Requests:
    """A worker's requests; a source of ``meter`` for those under way."""

    def __init__(self) -> None:
        self.under_way = 0
        self._series: dict[tuple[str, str, int], tuple[Report, Report]] = {}
        meter.watch(self)

    def listen(self) -> None:
        """See ``meter.Source``."""
        self._series.clear()

    def report(self) -> None:
        """See ``meter.Source``."""
        meter.gauge("http_in_flight", self.under_way)

    def note(self, path: str, method: str, status: int, took_s: float) -> None:
        """One that was answered, or whose client went away."""
        key = (route_of(path), method, status)
        series = self._series.get(key)
        if series is None:
            if len(self._series) > 10_000:  # methods are the clients' to invent
                self._series.clear()
            series = self._series[key] = _bound(*key)
        counted, timed = series
        counted(1)
        timed(took_s)


def _bound(route: str, method: str, status: int) -> tuple[Report, Report]:
    kind = "gone" if status == GONE else f"{status // 100}xx"
    method = method if method in _METHODS else "other"
    return (
        meter.bind("counter", "http_requests", route=route, method=method, status=kind),
        meter.bind("histogram", "http_seconds", route=route),
    )


def router(exporter: Exporter) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["metrics"], responses={**PROBLEMS})
    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
    }

    async def rendered(section: str | None, accept: str | None) -> Response:
        body, kind = await asyncio.to_thread(exporter.render, section, accept or "")
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})

    @routes.get("/metrics", response_class=Response, responses=text)
    async def metrics(accept: Annotated[str | None, Header()] = None) -> Response:
        """All metrics of all processes, as Prometheus reads them."""
        return await rendered(None, accept)

    @routes.get("/metrics/{section}", response_class=Response, responses=text)
    async def some_metrics(
        section: Annotated[str, Path(pattern=r"^[a-z_]{1,40}$")],
        accept: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Those of one section."""
        return await rendered(section, accept)

    return routes
