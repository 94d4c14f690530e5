"""The adapter between RSGI and ASGI, under a real Granian: streams, partings, slow clients."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pcompiler.serve.http.adapter import Adapter, read_body
from pcompiler.serve.http.refusals import Refusal

ROOT = Path(__file__).parent.parent
MAX_BYTES, BODY_S, SEND_S = 100_000, 1.0, 1.0


class Wrapped:
    """What Granian runs: an ASGI application that does what the path says."""

    def __init__(self) -> None:
        self._adapter = Adapter(self._application, [("x-added", "yes")], SEND_S)
        self._seen: list[str] = []

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        try:
            length = scope.headers.get("content-length")
            body = await read_body(proto, length, MAX_BYTES, BODY_S)
            status = await self._adapter(scope, proto, body, "somebody")
            self._seen.append(f"{scope.path} {status}")
        except Refusal as e:
            proto.response_bytes(e.status, list(e.headers.items()), e.content)
        except ZeroDivisionError:
            proto.response_bytes(500, [], b"failed")

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        async def answer(body: bytes, more: bool = False) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        path = scope["path"]
        message = await receive()
        if path == "/waits":
            self._seen.append("waiting")
            await receive()
        if path == "/fail":
            raise ZeroDivisionError
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-own", b"1")]})
        if path == "/seen":
            await answer(json.dumps(self._seen).encode())
        elif path == "/large":
            for _ in range(400):
                await answer(bytes(2**18), more=True)
            await answer(b"")
        elif path == "/forever":
            try:
                while True:
                    await answer(b"again", more=True)
                    await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                self._seen.append("cancelled")
                raise
        elif path == "/breaks":
            await answer(b"half", more=True)
            raise ZeroDivisionError
        else:
            shown = {k: str(v) for k, v in scope.items() if k != "headers"}
            headers = [[k.decode("latin-1"), v.decode("latin-1")] for k, v in scope["headers"]]
            told = {"scope": shown, "headers": headers, "body": message["body"].decode()}
            await answer(json.dumps(told).encode())


def main() -> None:
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Granian(
        "test_serve_adapter:Wrapped",
        port=port,
        interface=Interfaces.RSGI,
        factory=True,
        http=HTTPModes.http1,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=1000),
        log_enabled=False,
        workers_kill_timeout=1,
    )
    server.on_startup(lambda: print(port, flush=True))  # noqa: T201
    server.serve()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, __file__]
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    environment = os.environ | {"PYTHONPATH": path}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, text=True) as run:
        assert run.stdout is not None
        found = f"http://127.0.0.1:{int(run.stdout.readline())}"
        with httpx.Client(base_url=found, transport=httpx.HTTPTransport(retries=8)) as client:
            client.get("/echo", timeout=30)
        yield found
        run.terminate()


def seen(url: str) -> list[str]:
    found: list[str] = httpx.get(f"{url}/seen").json()
    return found


def until(url: str, word: str, timeout_s: float = 5) -> None:
    end = time.monotonic() + timeout_s
    while word not in seen(url):
        assert time.monotonic() < end, f"{word} not in {seen(url)}"
        time.sleep(0.05)


def raw(url: str, text: bytes) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(text)
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    with connection:
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def test_a_request_comes_through_and_headers_are_added_to_the_answer(url: str) -> None:
    sent = {"x-bytes": b"\xe9"}
    answer = httpx.post(f"{url}/a%20b%2Fc?q=%20x&q=2", content="body é", headers=sent)
    assert (answer.status_code, answer.headers["x-own"], answer.headers["x-added"]) == (
        201,
        "1",
        "yes",
    )
    told = answer.json()
    scope = told["scope"]
    assert (scope["method"], scope["path"], scope["query_string"]) == (
        "POST",
        "/a b/c",
        "b'q=%20x&q=2'",
    )
    assert (scope["client_name"], scope["type"]) == ("somebody", "http")
    assert told["body"] == "body é"
    assert dict(told["headers"])["content-length"] == "7"


def test_a_large_answer_is_streamed_whole(url: str) -> None:
    with httpx.stream("GET", f"{url}/large") as answer:
        assert sum(len(part) for part in answer.iter_raw()) == 400 * 2**18
    until(url, "/large 201")


def test_a_client_that_leaves_cancels_the_application(url: str) -> None:
    with httpx.stream("GET", f"{url}/forever") as answer:
        next(answer.iter_raw())
    until(url, "cancelled")


def test_a_client_that_leaves_before_the_answer_is_told_of(url: str) -> None:
    with raw(url, b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n"):
        until(url, "waiting")
    until(url, "/waits 499")


def test_a_client_that_takes_in_nothing_is_let_go(url: str) -> None:
    with raw(url, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"):
        before = seen(url).count("/large 201")
        end = time.monotonic() + SEND_S + 5
        while seen(url).count("/large 201") == before:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_an_error_before_the_answer_is_the_callers_and_one_within_it_ends_it(url: str) -> None:
    assert httpx.get(f"{url}/fail").status_code == 500
    assert httpx.get(f"{url}/breaks").content == b"half"  # RSGI cannot break a stream off
    until(url, "/breaks 201")


def test_a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not(url: str) -> None:
    assert httpx.post(f"{url}/x", content=b"x" * MAX_BYTES).status_code == 201
    assert httpx.post(f"{url}/x", content=b"x" * (MAX_BYTES + 1)).status_code == 413
    parts = (b"x" * 10_000 for _ in range(11))
    assert httpx.post(f"{url}/x", content=parts).status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(url: str) -> None:
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf"
    start = time.monotonic()
    answer = read_all(raw(url, head))
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - start < BODY_S + 2


def test_a_head_that_does_not_come_is_not_waited_for(url: str) -> None:
    start = time.monotonic()
    assert read_all(raw(url, b"GET /x HTTP/1.1\r\nHo")) == b""
    assert time.monotonic() - start < 4


if __name__ == "__main__":
    main()
