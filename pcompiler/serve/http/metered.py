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

LOOK_UP = "/v1/artifacts/{id}"
MOST_TIMED = 1_000  # requests between two reports that are all timed
_UNTIMED = 15  # a mask: beyond these, one of 16 is
GONE = 499  # the client went away before there was an answer
_METHODS = ("GET", "POST", "DELETE", "HEAD")
_PLAIN = frozenset(route for route in ROUTES if "{" not in route)
_NAMED = (
    (re.compile(r"/v1/artifacts/[^/]+"), LOOK_UP),
    (re.compile(r"/v1/artifacts/[^/]+/changes"), "/v1/artifacts/{id}/changes"),
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


class _Series:
    """Requests of one route, method and status."""

    __slots__ = ("count", "labels", "timed", "told")

    def __init__(self, route: str, method: str, status: int) -> None:
        kind = "gone" if status == GONE else f"{status // 100}xx"
        self.labels = {"route": route, "method": method, "status": kind}
        self.count = self.told = 0
        self.timed: Report = meter.bind("histogram", "http_seconds", route=route)


class Requests:
    """A worker's requests; a source of ``meter``.

    To count and time a request for Prometheus takes 10 µs, as long as to answer a look-up. So they
    are counted plainly and reported in sums, and of more than 1,000 a second one in 16 is timed.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self._series: dict[tuple[str, str, int], _Series] = {}
        self._all_timed = MOST_TIMED
        meter.watch(self)

    def listen(self) -> None:
        """See ``meter.Source``."""
        self._series.clear()

    def report(self) -> None:
        """See ``meter.Source``."""
        self._all_timed = MOST_TIMED
        meter.gauge("http_in_flight", self.under_way)
        for series in list(self._series.values()):
            new = series.count - series.told
            if new:
                meter.count("http_requests", new, **series.labels)
                series.told += new

    def note(self, route: str, method: str, status: int, took_s: float) -> None:
        """One that was answered, or whose client went away."""
        key = (route, method if method in _METHODS else "other", status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(*key)
        series.count += 1
        if self._all_timed > 0 or not series.count & _UNTIMED:
            self._all_timed -= 1
            series.timed(took_s)


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
