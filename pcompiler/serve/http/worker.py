"""One worker, as Granian calls it: guards, look-ups at once, everything else by the framework.

Look-ups of an artifact by its whole id are most of what a busy server is asked. They are answered
here, without a framework, from the worker's own view of the store.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcompiler.config import Config
from pcompiler.errors import Busy, PcompilerError
from pcompiler.serve import metrics
from pcompiler.serve.contract import Backend
from pcompiler.serve.http import guards, signals
from pcompiler.serve.http.adapter import Adapter, Headers, read_body
from pcompiler.serve.http.app import application
from pcompiler.serve.http.artifacts import accepts_tensors, matches
from pcompiler.serve.http.keys import Keys
from pcompiler.serve.http.limits import Limits
from pcompiler.serve.http.metered import LOOK_UP, Requests, route_of
from pcompiler.serve.http.patience import Patient
from pcompiler.serve.http.refusals import Refusal, refusal_of, retry_after
from pcompiler.serve.http.services import Services
from pcompiler.serve.http.tokens import Tokens
from pcompiler.serve.http.view import View, shown, tag

SECURITY: Headers = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
]
JSON: Headers = [("content-type", "application/json"), *SECURITY]
HEALTHY = b'{"status":"ok","processes":{}}'
_WHOLE = re.compile(r"/v1/artifacts/([0-9a-f]{24})")
OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})  # and the page's files: no key
WORK = frozenset(
    {"/v1/compile", "/v1/segments", "/v1/embeddings", "/v1/chat/completions", "/v1/search"}
)
MOST_HOSTS = 256
log = logging.getLogger("pcompiler.serve")


@dataclass(frozen=True)
class Setup:
    """What a worker is made from; passed to its process.

    Attributes:
        config: all settings.
        keys: of clients; none: everyone is one client.
        backend: makes the worker's way to the processes behind.
        shared: the file that holds limits over all workers.
        hosts: names to be asked by; none: any.
    """

    config: Config
    keys: Keys | None
    backend: Callable[[], Backend]
    shared: Path
    hosts: frozenset[str] = field(default_factory=frozenset)


class Worker:
    """Answers requests; see ``Setup``."""

    def __init__(self, setup: Setup) -> None:
        config, settings = setup.config, setup.config.serve
        self._setup, self._settings = setup, settings
        exporter = metrics.start("worker")  # before the store is opened, which reports as well
        self._requests = Requests()
        names = setup.keys.names if setup.keys else ()
        self._limits = Limits(setup.shared, names, settings)
        backend = Patient(setup.backend(), settings)
        self._view = View(config.store.folder, config.store, settings.follow_s, backend.fetch)
        services = Services(config, self._view, backend, Tokens(config.model.name))
        app = application(services, exporter, keyed=setup.keys is not None)
        self._framework = Adapter(app, SECURITY, settings.send_s)
        self._reading, self._answering = Room(settings.in_flight), Room(settings.in_flight)
        self._let_in: set[str] = set()  # hosts that were checked before
        self._following: asyncio.Task[None] | None = None

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once the worker's loop is there, and hears signals."""
        self._unheed = signals.heed(loop)  # held: with it goes the pipe
        self._following = loop.create_task(self._view.follow())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called when the worker has answered its last request."""
        if self._following is not None:
            self._following.cancel()
        self._limits.close()
        self._view.close()
        # Not the interpreter's long way out: Granian's threads may still call into it, and abort.
        os._exit(0)

    async def __rsgi__(self, scope: Any, proto: Any) -> None:  # noqa: ANN401 - RSGI's are Rust's
        """Answer one request."""
        if scope.proto != "http":
            proto.close(403)
            return
        start = time.perf_counter()
        requests, route = self._requests, ""
        requests.under_way += 1
        try:
            client = self._admit(scope)
            status = 0
            if scope.method == "GET" and (match := _WHOLE.fullmatch(scope.path)):
                route = LOOK_UP
                status = self._look_up(scope, proto, match[1], client)
            elif scope.path == "/healthz" and scope.method == "GET":
                status = 200
                proto.response_bytes(status, JSON, HEALTHY)
            status = status or await self._pass_on(scope, proto, client)
        except Refusal as refusal:
            status = _refuse(proto, refusal)
        except PcompilerError as e:
            status = _refuse(proto, refusal_of(e))
        except Exception:
            log.exception("%s %s failed", scope.method, scope.path)
            message = "something failed here; the server's log has it."
            status = _refuse(proto, Refusal(500, message, "server_error", "internal"))
        finally:
            requests.under_way -= 1
        took_s = time.perf_counter() - start
        requests.note(route or route_of(scope.path), scope.method, status, took_s)

    def _admit(self, scope: Any) -> str:  # noqa: ANN401
        """Whose request it is.

        Raises:
            Refusal: 421, 403, 401: it is not to be answered.
        """
        headers, setup = scope.headers, self._setup
        host = headers.get("host") or scope.authority
        if setup.hosts and host not in self._let_in:
            guards.check_host(host, setup.hosts)
            if len(self._let_in) < MOST_HOSTS:
                self._let_in.add(host)
        if scope.method not in ("GET", "HEAD"):
            guards.check_origin(headers.get("origin"), host)
        if setup.keys is None or scope.path in OPEN or scope.path.startswith("/page/"):
            return ""
        client = setup.keys.owner(headers.get("authorization"))
        if client is None:
            message = "give one of this server's keys: Authorization: Bearer KEY."
            ask = {"www-authenticate": "Bearer"}
            raise Refusal(401, message, "authentication_error", "invalid_api_key", headers=ask)
        return client

    def _look_up(self, scope: Any, proto: Any, artifact: str, client: str) -> int:  # noqa: ANN401
        """Answer with a header; 0: the framework has to."""
        headers = scope.headers
        if accepts_tensors(headers.get("accept")):
            return 0
        record = self._view.record(artifact)
        if record is None:
            return 0
        self._limits.look_up(client)
        mark = tag(record)
        told = [*JSON, ("etag", mark), ("cache-control", "private, no-cache"), ("vary", "accept")]
        if matches(headers.get("if-none-match"), mark):
            proto.response_empty(304, told)
            return 304
        proto.response_bytes(200, told, shown(record))
        return 200

    async def _pass_on(self, scope: Any, proto: Any, client: str) -> int:  # noqa: ANN401
        """Have the framework answer, within the limits."""
        body = await self._body(scope, proto)
        with ExitStack() as held:
            held.enter_context(self._answering.one())
            if scope.method == "POST" and scope.path in WORK:
                guards.check_json(scope.headers.get("content-type"), body)
                held.enter_context(self._limits.work(client))
            elif scope.path.startswith("/v1/"):
                self._limits.look_up(client)
            return await self._framework(scope, proto, body, client)

    async def _body(self, scope: Any, proto: Any) -> bytes:  # noqa: ANN401
        """The request's body; those that come slowly keep out only others that have one."""
        headers, settings = scope.headers, self._settings
        length = headers.get("content-length")
        if length in (None, "0") and "transfer-encoding" not in headers:
            return b""
        with self._reading.one():
            return await read_body(proto, length, settings.body_bytes, settings.body_s)


class Room:
    """Room for so many at once.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Room for one. Raises Busy: there is none."""
        if self._inside >= self._most:
            raise Busy(f"{self._most} requests are under way; come back in a moment.")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


def _refuse(proto: Any, refusal: Refusal) -> int:  # noqa: ANN401
    if refusal.status == 503 and "retry-after" not in refusal.headers:
        refusal.headers = {**refusal.headers, **retry_after(1.0)}
    proto.response_bytes(refusal.status, [*JSON, *refusal.headers.items()], refusal.content)
    return refusal.status
