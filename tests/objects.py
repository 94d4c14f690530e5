"""A server that speaks S3, in a process of its own, and a proxy before it that can misbehave.

Run as a script, it is the server: moto's, on a free port of loopback, which it prints.
"""

from __future__ import annotations

import http.client
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["hang", "500", "reset", "lost", "truncate", "flip", "flip_sent"]
Twist = Callable[[str, str], Fault | None]  # of a request's method and path
HANG_S = 30.0  # longer than anyone waits


@contextmanager
def server() -> Iterator[str]:
    """The server's address, while it runs."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = (line for line in process.stdout if line.startswith("port "))
        yield f"127.0.0.1:{int(next(lines).split()[1])}"
    finally:
        process.terminate()
        process.communicate()


def make_bucket(address: str, name: str) -> None:
    """A new bucket."""
    asked = http.client.HTTPConnection(address)
    asked.request("PUT", f"/{name}")
    assert asked.getresponse().status == 200
    asked.close()


class Proxy(ThreadingHTTPServer):
    """Passes requests on, except where ``twist`` says how to fail.

    Attributes:
        seen: method and path of each request, in order.
    """

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = address
        self.seen: list[tuple[str, str]] = []
        self.twist: Twist = lambda _method, _path: None
        self.over = threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        """What leads obstore here."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIATESTKEY",
            "AWS_SECRET_ACCESS_KEY": "sesame-open",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
        }

    def handle_error(self, *_: object) -> None:
        """Clients that give up are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.seen.append((self.command, path))
        fault = self.server.twist(self.command, path)
        self.close_connection = fault is not None
        if fault == "hang":
            self.server.over.wait(HANG_S)
        elif fault == "reset":
            self._reset()
        elif fault == "500":
            self._answer(500, {"Content-Type": "text/plain"}, b"secret of the server")
        else:
            status, headers, said = self._asked(flipped(body) if fault == "flip_sent" else body)
            if fault == "lost":  # it was done, and nobody is told
                self._reset()
            elif fault == "truncate":
                self._answer(status, headers, said, said[: len(said) // 2])
            else:
                self._answer(status, headers, said, flipped(said) if fault == "flip" else said)

    def _asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        behind = http.client.HTTPConnection(self.server.behind)
        told = dict(self.headers.items())
        behind.request(self.command, self.path, body, told | {"Connection": "close"})
        answer = behind.getresponse()
        data = answer.read()
        hop = ("connection", "transfer-encoding", "content-length")
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in hop}
        length = answer.headers["Content-Length"] if self.command == "HEAD" else str(len(data))
        behind.close()
        return answer.status, headers | {"Content-Length": length or "0"}, data

    def _answer(
        self, status: int, headers: dict[str, str], whole: bytes, sent: bytes | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(whole))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(whole if sent is None else sent)

    def _reset(self) -> None:
        """Close so that the other side is told that the connection broke."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


def only(method: str, part: str, fault: Fault, times: int | None = None) -> Twist:
    """A twist that fails so many requests of one kind, or all; an empty method is any."""
    left = [times]

    def twist(asked: str, path: str) -> Fault | None:
        if method not in ("", asked) or part not in path or left[0] == 0:
            return None
        if left[0] is not None:
            left[0] -= 1
        return fault

    return twist


def flipped(data: bytes) -> bytes:
    """With one bit in the middle that is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


@contextmanager
def proxy(address: str) -> Iterator[Proxy]:
    """A proxy before a server, while it runs."""
    with Proxy(address) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.over.set()
        made.shutdown()
        thread.join()


if __name__ == "__main__":
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    made = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    made.start()
    print("port", made.get_host_and_port()[1], flush=True)  # noqa: T201
    sys.stdin.read()  # until whoever started it is gone
