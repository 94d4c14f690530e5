"""What the routes work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from pcompiler.config import Config
from pcompiler.serve.contract import Backend
from pcompiler.serve.http.tokens import Tokens
from pcompiler.serve.http.view import View


@dataclass(frozen=True)
class Services:
    """Of one worker.

    Attributes:
        config: all settings.
        view: of the store.
        backend: the processes behind.
        tokens: counts what the model would read.
    """

    config: Config
    view: View
    backend: Backend
    tokens: Tokens

    @property
    def model_name(self) -> str:
        """What clients call the model: a folder by its last part, never by its path."""
        name = self.config.model.name
        return Path(name).name if name.startswith((".", "~", "/")) else name


def client_of(request: Request) -> str:
    """Whose request it is."""
    name: str = request.scope.get("client_name", "")
    return name
