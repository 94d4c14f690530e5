"""A remote provider, against a server on this machine that answers with a real encoder."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from test_encoder import texts, tiny_encoder

from pcompiler import embed
from pcompiler.config import EmbedConfig
from pcompiler.embed import remote
from pcompiler.embed.base import Provider
from pcompiler.embed.encoder import Encoder
from pcompiler.embed.patience import wait_s
from pcompiler.embed.remote import Remote
from pcompiler.errors import ConfigError, InputError, PcompilerError, RemoteError, VectorError

KEY = "sk-very-secret"
ENCODER = tiny_encoder()
Answer = tuple[int, dict[str, str], bytes]


class Server(ThreadingHTTPServer):
    """``POST /v1/embeddings``; ``twist`` may answer in its place."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.twist: Callable[[int, bytes], Answer | None] = lambda _n, _good: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(asked | {"path": self.path})
        self.server.keys.append(self.headers["Authorization"])
        rows = ENCODER.embed(asked["input"]).tolist()
        data = [{"index": i, "embedding": row} for i, row in enumerate(rows)][::-1]
        good = json.dumps({"object": "list", "data": data}).encode()
        code, headers, body = self.server.twist(len(self.server.keys), good) or (200, {}, good)
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: Server, **changes: Any) -> Remote:
    return Remote(**({"base_url": server.url, "model": "tiny", "key": KEY} | changes))


def test_the_vectors_are_those_of_the_encoder_behind_the_server(server: Server) -> None:
    every, provider = [*texts(20), ""], ask(server, batch=8)
    assert isinstance(provider, Provider)
    found = provider.embed(every)
    np.testing.assert_allclose(found[:-1], ENCODER.embed(every)[:-1], atol=1e-6)
    assert provider.width == ENCODER.width
    assert [len(r["input"]) for r in server.requests] == [1, 8, 8, 5]
    assert {(r["path"], r["model"]) for r in server.requests} == {("/v1/embeddings", "tiny")}
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert provider.embed([]).shape == (0, 16)


def test_without_a_key_none_is_sent(server: Server) -> None:
    ask(server, key="").embed(["abc"])
    assert set(server.keys) == {None}


def test_a_busy_server_is_asked_again_as_late_as_it_says(server: Server) -> None:
    server.twist = lambda n, _: (429, {"Retry-After": "1"}, b"slow down") if n == 1 else None
    start = time.monotonic()
    assert ask(server).embed(["abc"]).shape == (1, 16)
    assert time.monotonic() - start >= 1
    assert len(server.requests) == 3  # the busy one, the width, the text


def test_retries_end_and_no_server_is_waited_for_for_hours(server: Server) -> None:
    server.twist = lambda _n, _good: (503, {"Retry-After": "0"}, b"down")
    with pytest.raises(RemoteError, match="503"):
        ask(server, retries=2).embed(["abc"])
    assert len(server.requests) == 3
    server.twist = lambda _n, _good: (429, {"Retry-After": "7200"}, b"later")
    with pytest.raises(RemoteError, match="429"):
        ask(server).embed(["abc"])
    assert len(server.requests) == 4


def test_what_retry_after_says_is_seconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    assert wait_s("7", 0) == 7
    assert wait_s(soon, 0) == pytest.approx(20, abs=2)
    assert [wait_s(None, n) for n in range(3)] == [0.5, 1, 2]
    assert wait_s("soon", 1) == 1
    assert wait_s("3600", 0) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {}, f"no such key {KEY}".encode()), "401"),
        ((302, {"Location": "http://127.0.0.1:9/v1/embeddings"}, b""), "302"),
        ((200, {}, b"<html>"), "something else"),
        ((200, {}, b"[1]"), "something else"),
        ((200, {}, b'{"data": []}'), "0 embeddings for 1"),
        ((200, {}, b'{"data": [{"index": 1, "embedding": [1.0]}]}'), "1 embeddings for 1"),
        ((200, {}, b'{"data": [{"index": 0, "embedding": [NaN]}]}'), "NaN"),
        ((200, {}, b'{"data": [{"index": 0, "embedding": "AAAA"}]}'), "numbers"),
        ((200, {}, b'{"data": [{"index": 0, "embedding": []}]}'), "shape"),
    ],
)
def test_a_bad_answer_is_an_error_without_the_key(
    server: Server, answer: Answer, words: str
) -> None:
    server.twist = lambda _n, _good: answer
    with pytest.raises(PcompilerError, match=words) as raised:
        ask(server).embed(["abc"])
    assert isinstance(raised.value, RemoteError | VectorError)
    assert KEY not in str(raised.value)
    assert KEY not in repr(ask(server))


def test_vectors_of_another_dimension_than_before_are_refused(server: Server) -> None:
    other = b'{"data": [{"index": 0, "embedding": [1.0, 2.0]}]}'
    server.twist = lambda n, _good: (200, {}, other) if n > 1 else None
    with pytest.raises(VectorError, match="2 dimensions, not 16"):
        ask(server).embed(["abc"])


def test_a_server_that_is_slow_or_not_there_is_told(server: Server) -> None:
    def late(_n: int, _good: bytes) -> None:
        time.sleep(0.5)

    server.twist = late
    with pytest.raises(RemoteError, match="timed out"):
        ask(server, timeout_s=0.1).embed(["abc"])
    with pytest.raises(RemoteError, match="cannot be asked"):
        Remote("http://127.0.0.1:9/v1", "tiny").embed(["abc"])


def test_too_much_is_refused_on_either_side(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="bytes"):
        ask(server).embed(["abc" * 2**20])
    assert ask(server).embed(["abc " * 2**18]).shape == (1, 16)  # a megabyte
    with pytest.raises(InputError, match="text 0 is of type bytes"):
        ask(server).embed([b"abc"])  # type: ignore[list-item]
    monkeypatch.setattr(remote, "MAX_REQUEST_BYTES", 10)
    server.requests.clear()
    ask(server).embed(["abcdef"] * 3)
    assert [len(r["input"]) for r in server.requests[1:]] == [1, 1, 1]
    monkeypatch.setattr(remote, "MAX_ANSWER_BYTES", 100)
    with pytest.raises(RemoteError, match="more than 100 bytes"):
        ask(server).embed(["abc"])


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": ""},
        {"base_url": "ftp://host/v1"},
        {"base_url": f"http://user:{KEY}@host/v1"},
        {"model": ""},
        {"key": f"{KEY}\r\nX: y"},
    ],
)
def test_settings_that_cannot_be_are_told_without_the_key(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        Remote(**({"base_url": "http://host/v1", "model": "m"} | given))
    assert KEY not in str(raised.value)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EmbedConfig(provider="remote", base_url="http://host/v1", model="m", batch=7)
    monkeypatch.delenv("PCOMPILER_EMBED_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "second")
    assert embed.provider(settings).key == "second"  # type: ignore[attr-defined]
    monkeypatch.setenv("PCOMPILER_EMBED_API_KEY", "first")
    made = embed.provider(settings)
    assert isinstance(made, Remote)
    assert (made.key, made.batch) == ("first", 7)
    assert made.fingerprint != Remote("http://host/v1", "n").fingerprint


def test_an_encoder_is_made_of_its_settings(tmp_path: Any) -> None:
    ENCODER.hf.save_pretrained(tmp_path)
    ENCODER.tokenizer.save(str(tmp_path / "tokenizer.json"))
    made = embed.provider(EmbedConfig(provider="encoder", model=str(tmp_path), batch=3), "cpu")
    assert isinstance(made, Encoder)
    assert made.batch == 3
