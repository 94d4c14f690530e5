"""Routes that go by what texts mean: OpenAI's embeddings, and a search for stored prompts."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from pcompiler.embed import minilm
from pcompiler.serve.http.openai_forms import Embeddings, EmbeddingsBody
from pcompiler.serve.http.refusals import Refusal
from pcompiler.serve.http.schema import PROBLEMS, Hit, Hits, SearchBody
from pcompiler.serve.http.services import Services, client_of
from pcompiler.store.db import Store

_PROMPT = re.compile(rb'"prompt_hash":"([0-9a-f]{32})"')


def encoded(vector: list[float], form: str | None) -> list[float] | str:
    """A vector as it is asked for."""
    if form != "base64":
        return vector
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def artifacts_of(store: Store, prompts: set[str]) -> dict[str, list[str]]:
    """Ids of the artifacts of each prompt. Reads all headers, and takes none apart."""
    found: dict[str, list[str]] = {prompt: [] for prompt in prompts}
    for key, record in store.records.scan("artifacts"):
        match = _PROMPT.search(record)
        if match and (prompt := match[1].decode()) in found:
            found[prompt].append(key.decode())
    return found


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses={**PROBLEMS})
    backend, limits = services.backend, services.config.serve

    @routes.post("/v1/embeddings", tags=["openai"], response_model=Embeddings)
    async def embed(body: EmbeddingsBody, request: Request) -> dict[str, Any]:
        """Unit vectors of texts, by the embedded encoder."""
        if body.model != minilm.NAME:
            message = f"there is no encoder {body.model!r}; this server has {minilm.NAME!r}."
            raise Refusal(404, message, code="model_not_found", param="model")
        texts = body.texts
        if len(texts) > limits.texts:
            message = f"{len(texts)} texts; a request may have {limits.texts}."
            raise Refusal(400, message, code="texts", param="input")
        await services.tokens.check([max(texts, key=len)], limits.query_tokens, "a text", "input")
        vectors = await backend.embed(texts, client_of(request))
        count = await asyncio.to_thread(minilm.count, texts)
        data = [
            {"object": "embedding", "index": i, "embedding": encoded(v, body.encoding_format)}
            for i, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "data": data, "model": minilm.NAME, "usage": usage}

    @routes.post("/v1/search", tags=["search"])
    async def search(body: SearchBody) -> Hits:
        """The stored prompts nearest to a text in meaning."""
        await services.tokens.check([body.query], limits.query_tokens, "the query", "query")
        near = await backend.search(body.query, body.limit)
        await services.view.fresh()
        prompts = {prompt for prompt, _ in near}
        found = await asyncio.to_thread(artifacts_of, services.view.store, prompts)
        return Hits(data=[Hit(prompt_hash=p, similarity=s, artifacts=found[p]) for p, s in near])

    return routes
