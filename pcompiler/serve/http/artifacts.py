"""Routes of what is stored: artifacts, their tensors, and their names."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from pcompiler.serve.http import view as views
from pcompiler.serve.http.adapter import PIECE_BYTES
from pcompiler.serve.http.refusals import Refusal
from pcompiler.serve.http.schema import (
    ARTIFACT,
    PROBLEMS,
    ArtifactPage,
    ArtifactShown,
    NameList,
    NameShown,
)
from pcompiler.serve.http.services import Services
from pcompiler.store.db import Store

MOST_READ = 10_000  # headers for one page, whatever the filters leave of them
MOST_NAMES = 10_000
TENSORS = ("application/octet-stream", "application/vnd.safetensors")
_ID = re.compile(r"[0-9a-f]{24}")
Reference = Annotated[str, Path(pattern=ARTIFACT, description="an id, its beginning, or a name")]


class Filters(BaseModel):
    """Which artifacts are listed, and from where on."""

    model_config = ConfigDict(extra="forbid")

    target: Annotated[str, Query(max_length=64)] | None = None
    model: Annotated[str, Query(max_length=1_024)] | None = None
    name: Annotated[str, Query(pattern=ARTIFACT)] | None = None
    created_after: Annotated[str, Query(pattern=r"^\d{4}-\d\d-\d\d[0-9T:.+Z-]{0,30}$")] | None = (
        None
    )
    created_before: Annotated[str, Query(pattern=r"^\d{4}-\d\d-\d\d[0-9T:.+Z-]{0,30}$")] | None = (
        None
    )
    prompt_hash: Annotated[str, Query(pattern=r"^[0-9a-f]{32}$")] | None = None
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50
    cursor: Annotated[str, Query(max_length=64)] | None = None

    def take(self, header: dict[str, Any], named: set[str] | None) -> bool:
        """Whether an artifact is one of those asked for."""
        return (
            (self.target in (None, header["target"]))
            and (self.model in (None, header["model_name"]))
            and (self.prompt_hash in (None, header["prompt_hash"]))
            and (self.created_after is None or header["created"] > self.created_after)
            and (self.created_before is None or header["created"] < self.created_before)
            and (named is None or header["id"] in named)
        )


def accepts_tensors(accept: str | None) -> bool:
    """Whether a client asks for tensors, and not for the header."""
    return accept is not None and any(kind in accept for kind in TENSORS)


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether a client has it already."""
    if if_none_match is None:
        return False
    tags = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return tag in tags or "*" in tags


def page(store: Store, filters: Filters) -> bytes:
    """One page of headers, as JSON."""
    named = None if filters.name is None else set(_named(store, filters.name))
    after = _after(filters.cursor)
    found: list[bytes] = []
    last: str | None = None
    for read, (key, record) in enumerate(store.records.scan("artifacts", start=after.encode())):
        if key.decode() == after:
            continue
        if len(found) == filters.limit or read == MOST_READ:
            break
        text = views.shown(record)
        last = key.decode()
        if filters.take(json.loads(text), named):
            found.append(text)
    else:
        last = None
    cursor = None if last is None else base64.urlsafe_b64encode(last.encode()).decode()
    return (
        b'{"data":[' + b",".join(found) + b'],"next_cursor":' + json.dumps(cursor).encode() + b"}"
    )


def _after(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        after = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        after = ""
    if not _ID.fullmatch(after):
        raise Refusal(
            400, "this cursor is none that a page gave; leave it out to begin anew.", param="cursor"
        )
    return after


def _named(store: Store, name: str) -> Iterator[str]:
    """Ids of what is called so, with this tag or, without one, with any."""
    for one in store.names.all():
        if one.artifact and name in (one.name, one.name.partition(":")[0]):
            yield one.artifact


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["artifacts"], responses={**PROBLEMS})
    view = services.view

    @routes.get("/v1/artifacts", response_model=ArtifactPage)
    async def list_artifacts(filters: Annotated[Filters, Query()]) -> Response:
        """Artifacts in order of id, a page at a time."""
        await view.fresh()
        content = await asyncio.to_thread(page, view.store, filters)
        return Response(content, media_type="application/json")

    @routes.get(
        "/v1/artifacts/{artifact}",
        response_model=ArtifactShown,
        responses={
            200: {"content": {kind: {"schema": {"type": "string"}} for kind in TENSORS}},
            304: {"description": "The client has it already."},
        },
    )
    async def show_artifact(
        artifact: Reference,
        accept: Annotated[str | None, Header()] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The header as JSON; with Accept: application/octet-stream its tensors (safetensors)."""
        header = await view.header(artifact)
        record = view.record(header.id) or header.record()  # as it is stored, whatever its format
        as_tensors = accepts_tensors(accept)
        tag = f'"{header.body_sha256[:32]}"' if as_tensors else views.tag(record)
        headers = {"etag": tag, "cache-control": "private, no-cache", "vary": "accept"}
        if matches(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        if not as_tensors:
            return Response(views.shown(record), headers=headers, media_type="application/json")
        data = await view.tensors(header)
        kind = TENSORS[1] if TENSORS[1] in (accept or "") else TENSORS[0]
        pieces = (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
        headers["content-length"] = str(len(data))
        return StreamingResponse(pieces, headers=headers, media_type=kind)

    @routes.delete("/v1/artifacts/{artifact}", status_code=204)
    async def delete_artifact(artifact: Reference, everywhere: bool = False) -> None:
        """Delete an artifact; one that is pinned stays.

        Of a store with a remote it comes back when it is asked for, unless it goes everywhere.
        """
        header = await view.header(artifact)
        pins = [name.name for name in view.store.names.of(header.id) if name.pinned]
        if pins:
            raise Refusal(
                409,
                f"artifact {header.id} is pinned as {', '.join(pins)}; it was not deleted. "
                f"'pcompiler store unpin {pins[0]}' lets go of it.",
                code="pinned",
            )
        await services.backend.delete(header.id, everywhere)
        await view.fresh()

    @routes.get("/v1/names")
    async def list_names() -> NameList:
        """What artifacts are called."""
        await view.fresh()
        names = await asyncio.to_thread(lambda: list(view.store.names.all())[:MOST_NAMES])
        shown = [
            NameShown(
                name=name.name,
                artifact=name.artifact,
                pinned=name.pinned,
                moved=name.moves[-1].at if name.moves else None,
            )
            for name in names
        ]
        return NameList(data=shown)

    return routes
