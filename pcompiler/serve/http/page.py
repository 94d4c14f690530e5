"""The page at /, and its files: those of this package that are named here, and no others."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter, Response

from pcompiler.serve.http.refusals import Refusal

FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "server.js": "text/javascript; charset=utf-8",
    "views.js": "text/javascript; charset=utf-8",
    "frontier.js": "text/javascript; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@lru_cache
def content(name: str) -> bytes | None:
    """A file of the page."""
    file = files(__package__) / "page" / name
    return file.read_bytes() if name in FILES and file.is_file() else None


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(include_in_schema=False)

    def answer(name: str) -> Response:
        found = content(name)
        if found is None:
            raise Refusal(404, "there is no such page.", code="not_found")
        headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
        return Response(found, headers=headers, media_type=FILES[name])

    @routes.get("/")
    async def index() -> Response:
        return answer("index.html")

    @routes.get("/page/{name}")
    async def file(name: str) -> Response:
        return answer(name)

    return routes
