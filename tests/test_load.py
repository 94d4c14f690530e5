"""The open loop: what it counts, and from when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pcompiler.bench import load
from pcompiler.bench.load import Tally, message, open_loop
from pcompiler.errors import InputError

STALL_S = 0.3
GOOD = message("GET", "/200", "localhost")
PATIENCE_S = 0.05  # of a server with connections that idle


class Answers(BaseHTTPRequestHandler):
    """Answers with the status in the path; /stall only after a while."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/stall":
            time.sleep(STALL_S)
        self.send_response(200 if self.path == "/stall" else int(self.path[1:]))
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def setup(self) -> None:
        super().setup()
        self.server.accepted += 1  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


class Impatient(Answers):
    """Closes a connection that idles for a moment."""

    timeout = PATIENCE_S


class Tiny(ThreadingHTTPServer):
    """Counts connections."""

    accepted = 0
    daemon_threads = True

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_port


@contextmanager
def tiny(handler: type[Answers]) -> Iterator[Tiny]:
    with Tiny(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with tiny(Answers) as server:
        yield server.address


def test_answers_refusals_and_failures_count_apart(address: tuple[str, int]) -> None:
    paths = ("200", "200", "429", "500", "503")
    found = open_loop(
        address, 100, 0.5, lambda n: ("all", message("GET", f"/{paths[n % 5]}", "localhost"))
    )["all"]
    assert (len(found.seconds), found.refused, found.failed) == (20, 20, 10)
    assert found.success == 0.4


def test_a_stalled_server_does_not_hold_requests_back(address: tuple[str, int]) -> None:
    found = open_loop(address, 20, 0.5, lambda _: ("slow", message("GET", "/stall", "localhost")))[
        "slow"
    ]
    assert found.asked == 10
    assert STALL_S <= found.latency().p50 < 3 * STALL_S  # in a closed loop ten would take 3 s


def test_a_server_that_is_not_there_fails_every_request() -> None:
    found = open_loop(("127.0.0.1", 1), 50, 0.1, lambda _: ("x", message("GET", "/", "h")))["x"]
    assert (found.failed, found.success) == (5, 0.0)


def test_a_connection_is_used_again_unless_it_idled_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(server: Tiny) -> int:
        before = server.accepted
        found = open_loop(server.address, 10, 0.5, lambda _: ("all", GOOD))["all"]
        assert found.success == 1.0
        return server.accepted - before

    with tiny(Answers) as server:
        assert ask(server) == 1
        monkeypatch.setattr(load, "IDLE_S", PATIENCE_S)
        assert ask(server) == 5


def test_a_connection_that_the_server_closed_meanwhile_fails_no_request() -> None:
    with tiny(Impatient) as server:
        found = open_loop(server.address, 4, 1.0, lambda _: ("all", GOOD))["all"]
        assert (found.asked, found.failed, server.accepted) == (4, 0, 4)


def test_percentiles_are_of_latencies_that_were_seen() -> None:
    tally = Tally()
    for number in range(1, 101):
        tally.add(200, float(number))
    assert (tally.latency().p50, tally.latency().p99, tally.latency().most) == (50, 99, 100)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        open_loop(("127.0.0.1", 1), 0, 1, lambda _: ("x", b""))
