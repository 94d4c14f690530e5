"""Every error that a client sees, in the form that OpenAI's clients read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pcompiler.errors import Overloaded, PcompilerError, RemoteError, StoreUnavailable
from pcompiler.serve.kinds import KINDS, kind_of

STORE_RETRY_S = 5.0


@dataclass
class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A response instead of what was asked for.

    Attributes:
        status: of HTTP.
        message: for people: what was given, what is allowed, what to do next.
        type: as OpenAI calls it.
        code: as we call it.
        param: what it is about.
        headers: to be sent with it.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        told = {"message": self.message, "type": self.type}
        return {"error": {**told, "param": self.param, "code": self.code}}

    @property
    def content(self) -> bytes:
        """The body's bytes; ASCII, whatever the message quotes."""
        return json.dumps(self.body).encode()


def refusal_of(error: PcompilerError) -> Refusal:
    """The answer to an error of the library."""
    status, kind, code = kind_of(error)
    wait_s = STORE_RETRY_S if isinstance(error, StoreUnavailable | RemoteError) else None
    if isinstance(error, Overloaded):
        wait_s = error.retry_after_s
    return Refusal(status, str(error), kind, code, headers=retry_after(wait_s))


def refusal_of_job(error: Mapping[str, Any]) -> Refusal:
    """The answer to a job that failed: {"type", "message", "status"}."""
    status = int(error.get("status") or 500)
    named = {kind.__name__: (name, code) for kind, _, name, code in KINDS}
    fault = ("server_error", "internal") if status >= 500 else ("invalid_request_error", "invalid")
    kind, code = named.get(str(error.get("type")), fault)
    wait_s = 1.0 if status in (429, 503) else None
    message = str(error.get("message") or "the job failed.")
    return Refusal(status, message, kind, code, headers=retry_after(wait_s))


def retry_after(wait_s: float | None) -> dict[str, str]:
    """The header that says when to come back, in whole seconds."""
    return {} if wait_s is None else {"retry-after": str(max(1, math.ceil(wait_s)))}


@contextmanager
def answered() -> Iterator[None]:
    """Turn errors of the library into refusals."""
    try:
        yield
    except PcompilerError as e:
        raise refusal_of(e) from e
