"""An ASGI application behind RSGI, with what servers leave to frameworks: nothing is unbounded.

The body is read before the application starts, up to a size and within a time. A client that
goes away, or takes in nothing for too long, cancels the application, and with it whatever the
application waits for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol
from urllib.parse import quote

from pcompiler.serve.http.refusals import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Headers = list[tuple[str, str]]
log = logging.getLogger("pcompiler.serve")
PIECE_BYTES = 2**18  # of a response, sent at once: what a slow client can make us hold


class Transport(Protocol):
    """A response on its way, as RSGI has it."""

    async def send_bytes(self, data: bytes) -> None:
        """Send some of the body."""
        ...


async def read_body(proto: Any, length: str | None, max_bytes: int, timeout_s: float) -> bytes:  # noqa: ANN401
    """A request's body.

    Raises:
        Refusal: 413: over ``max_bytes``; 408: not there within ``timeout_s``.
    """
    close = {"connection": "close"}
    large = Refusal(413, f"a body has {max_bytes:,} bytes at most.", code="body", headers=close)
    if length is not None and length.isdigit() and int(length[:20]) > max_bytes:
        raise large

    async def read() -> bytes:
        parts, size = [], 0
        async for part in proto:
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                raise large
        return b"".join(parts)

    try:
        return await asyncio.wait_for(read(), timeout_s)
    except asyncio.TimeoutError:
        raise Refusal(
            408, f"the body did not come within {timeout_s:g} s.", code="slow", headers=close
        ) from None


class Adapter:
    """Runs an ASGI application for RSGI requests.

    Args:
        application: of ASGI 3.
        headers: added to every response.
        send_s: that a client may take for each piece of a response.
    """

    def __init__(self, application: Application, headers: Headers, send_s: float) -> None:
        self._application, self._headers, self._send_s = application, headers, send_s

    async def __call__(self, scope: Any, proto: Any, body: bytes, client: str) -> int:  # noqa: ANN401
        """Answer one request; returns the status, 499 where the client went away before.

        Args:
            scope: of RSGI.
            proto: of RSGI.
            body: of the request.
            client: whose request it is; the application finds it as ``scope["client_name"]``.
        """
        answer = _Answer(proto, body, self._headers, self._send_s)
        asked = asgi_scope(scope) | {"client_name": client}
        running = asyncio.ensure_future(self._application(asked, answer.receive, answer.send))
        leaving = asyncio.ensure_future(_left(proto))
        try:
            await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                answer.left.set()
                running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        finally:
            running.cancel()
            leaving.cancel()
        if not running.cancelled() and (error := running.exception()) is not None:
            if answer.status is None:
                raise error
            # RSGI cannot break a stream off: what is streamed says itself when it is whole.
            log.error("%s %s broke off", scope.method, scope.path, exc_info=error)
        return answer.status or 499


async def _left(proto: Any) -> None:  # noqa: ANN401 - RSGI's are Rust's
    await proto.client_disconnect()


class _Answer:
    """One response: ASGI's messages in, RSGI's calls out."""

    def __init__(self, proto: Any, body: bytes, headers: Headers, send_s: float) -> None:  # noqa: ANN401
        self._proto, self._body, self._send_s = proto, body, send_s
        self._added = headers
        self._head: tuple[int, Headers] | None = None
        self._transport: Transport | None = None
        self._read = False
        self.status: int | None = None
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message["status"], [*_text(message.get("headers", ())), *self._added]
            return
        assert self._head is not None, "a response has a head"
        body, more = message.get("body", b""), message.get("more_body", False)
        status, headers = self._head
        if self._transport is None and not more and len(body) <= PIECE_BYTES:
            self.status = status
            self._proto.response_bytes(status, headers, body)
            return
        if self._transport is None:
            self.status = status
            self._transport = self._proto.response_stream(status, headers)
        for at in range(0, len(body), PIECE_BYTES):
            piece = body[at : at + PIECE_BYTES]
            await asyncio.wait_for(self._transport.send_bytes(piece), self._send_s)


def _text(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def asgi_scope(scope: Any) -> dict[str, Any]:  # noqa: ANN401 - RSGI's are Rust's
    """What ASGI calls what RSGI calls otherwise."""
    path = scope.path  # decoded already
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": scope.http_version,
        "method": scope.method,
        "scheme": scope.scheme,
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": scope.query_string.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in scope.headers.items()
        ],
        "client": _address(scope.client),
        "server": _address(scope.server),
        "state": {},
    }


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port) if port.isdigit() else 0
