"""Routes of OpenAI's list of models: the model, and the model with each named artifact."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path

from pcompiler.errors import NotFoundError
from pcompiler.serve.http.openai_forms import ModelList, ModelShown
from pcompiler.serve.http.refusals import Refusal
from pcompiler.serve.http.schema import PROBLEMS
from pcompiler.serve.http.services import Services
from pcompiler.store.artifact import Header

MOST_LISTED = 1_000
OWNER = "pcompiler"
STARTED = int(time.time())


async def resolve(services: Services, model: str) -> Header | None:
    """The artifact that is meant by a request's ``model``; none: the model alone.

    Raises:
        Refusal: 404: another model, or no such artifact.
    """
    served = services.model_name
    if model == served:
        return None
    name, at, reference = model.rpartition("@")
    if not at or name == served:
        try:
            return await services.view.header(reference)
        except NotFoundError as e:
            raise _unknown(model, str(e)) from None
    raise _unknown(model, f"this server has {served!r}; name it, or {served}@ARTIFACT.")


def _unknown(model: str, why: str) -> Refusal:
    message = f"there is no model {model[:300]!r}: {why}"
    return Refusal(404, message, code="model_not_found", param="model")


def shown(name: str, created: int) -> dict[str, Any]:
    """One model, as OpenAI shows it."""
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}


def _seconds(created: str) -> int:
    return int(datetime.fromisoformat(created).timestamp())


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["openai"], responses={**PROBLEMS})
    served = services.model_name

    def listed() -> list[dict[str, Any]]:
        names = [name for name in services.view.store.names.all() if name.artifact]
        return [shown(f"{served}@{n.name}", _seconds(n.moves[-1].at)) for n in names[:MOST_LISTED]]

    @routes.get("/v1/models", response_model=ModelList)
    async def list_models() -> dict[str, Any]:
        """The model, and NAME@TAG for each named artifact."""
        await services.view.fresh()
        return {
            "object": "list",
            "data": [shown(served, STARTED), *await asyncio.to_thread(listed)],
        }

    @routes.get("/v1/models/{model}", response_model=ModelShown)
    async def show_model(
        model: Annotated[str, Path(min_length=1, max_length=256)],
    ) -> dict[str, Any]:
        """Whether a name may be given as ``model``."""
        header = await resolve(services, model)
        return shown(model, STARTED if header is None else _seconds(header.created))

    return routes
