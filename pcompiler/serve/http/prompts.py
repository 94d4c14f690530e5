"""Routes that show a prompt: what it is made of, and what an artifact of text keeps of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import safetensors.numpy
from fastapi import APIRouter

from pcompiler.changes import changes
from pcompiler.errors import DamageError, NotFoundError
from pcompiler.frontend import parse
from pcompiler.serve.http.artifacts import Reference
from pcompiler.serve.http.refusals import Refusal
from pcompiler.serve.http.schema import (
    PROBLEMS,
    ChangeList,
    ChangeShown,
    SegmentList,
    SegmentsBody,
    SegmentShown,
    TurnShown,
)
from pcompiler.serve.http.services import Services
from pcompiler.serve.http.tokens import Tokens
from pcompiler.store.artifact import Header
from pcompiler.store.key import content_hash

MOST_SEGMENTS = 2_000  # in one response; the rest is counted
MOST_COMPARED = 100_000  # characters of a prompt that is compared with what is left of it


def segments(source: str, tokens: Tokens) -> SegmentList:
    """What a source is made of. Raises InputError, as compiling it would."""
    prompt = parse(source)
    parts = prompt.segments[:MOST_SEGMENTS]
    counts = tokens.each([segment.text for segment in parts])
    return SegmentList(
        prompt_hash=content_hash(source),
        tokens=tokens.count([message.content for message in prompt.messages]),
        messages=[TurnShown(role=m.role, content=m.content) for m in prompt.messages],
        segments=[
            SegmentShown(
                kind=part.kind.value,
                policy=part.policy.value,
                source=part.source,
                message=part.message,
                tokens=count,
            )
            for part, count in zip(parts, counts, strict=True)
        ],
        left_out=len(prompt.segments) - len(parts),
    )


def kept(data: bytes) -> str:
    """The turns that an artifact of text keeps. Raises DamageError."""
    try:
        turns = json.loads(safetensors.numpy.load(data)["messages"].tobytes())
        return joined([turn["content"] for turn in turns])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError):
        raise DamageError("the artifact has no text.") from None


def joined(turns: list[str]) -> str:
    """Turns as one text."""
    return "\n\n".join(turns)


def compared(source: str, data: bytes) -> ChangeList:
    """A prompt beside what is left of it, the tensors of an artifact of text."""
    if len(source) > MOST_COMPARED:
        raise Refusal(
            400,
            f"the prompt has {len(source):,} characters; over HTTP {MOST_COMPARED:,} are compared "
            "at most. 'pcompiler compile --target text --diff' has no such limit.",
            code="too_long",
        )
    full = joined([message.content for message in parse(source).messages])
    found = changes(full, kept(data))
    return ChangeList(data=[ChangeShown.model_validate(asdict(part)) for part in found])


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["prompts"], responses={**PROBLEMS})
    view = services.view

    def stored(header: Header) -> str:
        source = view.store.source(header.prompt_hash)
        if source is None:
            raise NotFoundError(f"the prompt of {header.id} is not in the store any more.")
        return source

    @routes.post("/v1/segments")
    async def show_segments(body: SegmentsBody) -> SegmentList:
        """The segments of a prompt, and the turns that the model sees; nothing is stored."""
        return await asyncio.to_thread(segments, body.source, services.tokens)

    @routes.get("/v1/artifacts/{artifact}/changes")
    async def show_changes(artifact: Reference) -> ChangeList:
        """What an artifact of text keeps (" "), drops ("-") and puts in ("+") of its prompt."""
        header = await view.header(artifact)
        if header.target != "text":
            message = (
                f"artifact {header.id} is {header.target}: it keeps no text, so none is dropped. "
                "Name one of target text."
            )
            raise Refusal(400, message, code="target")
        data = await view.tensors(header)
        return await asyncio.to_thread(compared, stored(header), data)

    return routes
