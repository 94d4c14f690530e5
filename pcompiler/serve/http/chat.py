"""OpenAI's chat completions, with an artifact in place of the prompt."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pcompiler.errors import PcompilerError
from pcompiler.serve.contract import ChatRequest, End, Message, Piece
from pcompiler.serve.http.events import KIND, Events, event
from pcompiler.serve.http.models import resolve
from pcompiler.serve.http.openai_forms import ChatBody, Completion
from pcompiler.serve.http.refusals import Refusal, refusal_of
from pcompiler.serve.http.schema import PROBLEMS
from pcompiler.serve.http.services import Services, client_of
from pcompiler.store.artifact import Header

DEFAULT_TOKENS = 256  # of an answer
DONE = event("[DONE]")


def turns(body: ChatBody, header: Header | None) -> list[Message]:
    """The turns of a chat.

    Raises:
        Refusal: 400: the last is not the user's, or a system turn beside an artifact.
    """
    roles = ["system" if turn.role == "developer" else turn.role for turn in body.messages]
    if roles[-1] != "user" or not body.messages[-1].text.strip():
        raise Refusal(400, "the last message has to be the user's, with text.", param="messages")
    if header is not None and "system" in roles:
        raise Refusal(
            400,
            f"artifact {header.id} stands in for the system prompt; leave system messages out, or "
            "name the model alone.",
            param="messages",
        )
    return [Message(role, turn.text) for role, turn in zip(roles, body.messages, strict=True)]


class Answer:
    """One answer in OpenAI's forms.

    Args:
        body: what was asked.
        header: of the artifact, if there is one.
    """

    def __init__(self, body: ChatBody, header: Header | None) -> None:
        self._model, self._artifact = body.model, header.id if header else None
        self._usage_asked = bool(body.stream_options and body.stream_options.include_usage)
        self._id, self._created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    def _common(self, kind: str) -> dict[str, Any]:
        told = {"id": self._id, "object": kind, "created": self._created, "model": self._model}
        return {**told, "system_fingerprint": self._artifact}

    def whole(self, text: str, end: End) -> dict[str, Any]:
        """All at once."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.reason}
        return {**self._common("chat.completion"), "choices": [choice], **accounts(end)}

    def chunk(self, delta: dict[str, Any] | None, reason: str | None = None) -> dict[str, Any]:
        """A part of it; None: of none, which only the usage comes with."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._usage_asked else {}
        choices = [] if delta is None else [choice]
        return {**self._common("chat.completion.chunk"), "choices": choices, **usage}

    async def events(
        self, first: Piece | End, rest: AsyncIterator[Piece | End]
    ) -> AsyncIterator[bytes]:
        """Piece by piece."""
        yield _event(self.chunk({"role": "assistant", "content": ""}))
        item = first
        try:
            while isinstance(item, Piece):
                if item.text:
                    yield _event(self.chunk({"content": item.text}))
                item = await anext(rest)
        except PcompilerError as e:
            yield _event(refusal_of(e).body)
            return
        except (StopAsyncIteration, asyncio.TimeoutError):
            yield _event(Refusal(503, "the answer broke off.", "server_error", "unavailable").body)
            return
        yield _event(self.chunk({}, item.reason))
        if self._usage_asked:
            yield _event({**self.chunk(None), **accounts(item)})
        yield DONE


def accounts(end: End) -> dict[str, Any]:
    """Tokens as OpenAI counts them; under ``pcompiler`` what was saved, and how long it took."""
    usage = {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.answer_tokens,
        "total_tokens": end.prompt_tokens + end.answer_tokens,
        "prompt_tokens_details": {"cached_tokens": min(end.saved_tokens, end.prompt_tokens)},
    }
    ours = {"saved_tokens": end.saved_tokens, "waited_s": end.waited_s, "ttft_s": end.ttft_s}
    return {"usage": usage, "pcompiler": ours}


def _event(data: dict[str, Any]) -> bytes:
    return event(json.dumps(data))


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["openai"], responses={**PROBLEMS})
    limits = services.config.serve

    async def asked(body: ChatBody, header: Header | None, client: str) -> ChatRequest:
        messages = turns(body, header)
        texts = [message.content for message in messages]
        await services.tokens.check(texts, limits.query_tokens, "the chat", "messages")
        wanted = body.max_completion_tokens or body.max_tokens or DEFAULT_TOKENS
        return ChatRequest(
            messages=messages,
            artifact=header.id if header else None,
            max_tokens=min(wanted, limits.answer_tokens),
            temperature=body.temperature or 0.0,
            top_p=1.0 if body.top_p is None else body.top_p,
            seed=body.seed or 0,
            stop=body.stops,
            client=client,
            timeout_s=limits.chat_s,
        )

    @routes.post(
        "/v1/chat/completions",
        response_model=Completion,
        responses={200: {"content": {KIND: {"schema": {"type": "string"}}}}},
    )
    async def chat(body: ChatBody, request: Request) -> Response:
        """Answer a chat; ``model`` says which artifact stands before it."""
        header = await resolve(services, body.model)
        pieces = services.backend.chat(await asked(body, header, client_of(request)))
        answer = Answer(body, header)
        if not body.stream:
            said, end = await gathered(pieces)
            return JSONResponse(answer.whole(said, end))
        try:
            first = await anext(pieces)  # an error of before it is still one of HTTP
        except BaseException:
            await closed(pieces)
            raise
        return Events(answer.events(first, pieces), pieces)

    return routes


async def gathered(pieces: AsyncIterator[Piece | End]) -> tuple[str, End]:
    """A whole answer."""
    said: list[str] = []
    async with aclosing(pieces):  # type: ignore[type-var]
        async for item in pieces:
            if isinstance(item, End):
                return "".join(said), item
            said.append(item.text)
    raise Refusal(503, "the answer broke off.", "server_error", "unavailable")


async def closed(pieces: AsyncIterator[Piece | End]) -> None:
    """Stop what is under way."""
    async with aclosing(pieces):  # type: ignore[type-var]
        pass
