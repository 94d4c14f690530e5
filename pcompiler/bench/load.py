"""An open loop of HTTP requests: they start when they are due, whether or not others are answered.

A latency is counted from when a request was due, not from when it could be sent, so that a server
that stalls is charged for all who waited (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pcompiler.bench.latency_summary import Summary, summary
from pcompiler.errors import InputError

BUSY = (429, 503)
IDLE_S = 5.0  # a connection may idle before it is used again: servers close those that idle longer


@dataclass
class Tally:
    """What became of the requests of one kind.

    Attributes:
        seconds: of those answered with 200, from when they were due.
        refused: answered with 429 or 503, told apart from failures.
        failed: any other answer, none in time, or a broken connection.
        late_s: most that a request was sent after it was due: the generator's own delay.
    """

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0
    late_s: float = 0.0

    @property
    def asked(self) -> int:
        """All of them."""
        return len(self.seconds) + self.refused + self.failed

    @property
    def success(self) -> float:
        """Share answered with 200."""
        return len(self.seconds) / max(1, self.asked)

    def add(self, status: int, seconds: float) -> None:
        """Count an answer; status 0 is none."""
        if status == 200:
            self.seconds.append(seconds)
        elif status in BUSY:
            self.refused += 1
        else:
            self.failed += 1

    def latency(self) -> Summary:
        """Of the answered. Raises InputError where there are none."""
        return summary(np.asarray(self.seconds))


class Connections:
    """Connections that are kept and used again, as HTTP clients do it: not after a long pause."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes) -> int:
        """Send a whole request; returns the status once the whole body is here."""
        reader, writer = self._kept() or await asyncio.open_connection(*self._address)
        kept = False
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            kept = b"connection: close" not in head
            return int(head.split(b" ", 2)[1])
        finally:
            if kept:
                self._idle.append((time.monotonic(), reader, writer))
            else:
                writer.close()

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The one used last that is still good; none: there is none."""
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < IDLE_S and not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    def close(self) -> None:
        """Close those that are idle."""
        for _, _, writer in self._idle:
            writer.close()


def message(method: str, path: str, host: str, body: bytes = b"") -> bytes:
    """An HTTP/1.1 request with a JSON body."""
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def open_loop(
    address: tuple[str, int],
    rate: float,
    seconds: float,
    request: Callable[[int], tuple[str, bytes]],
    timeout_s: float = 60.0,
) -> dict[str, Tally]:
    """Ask at a constant rate.

    Args:
        address: host and port.
        rate: requests a second.
        seconds: for how long requests start; answers are waited for beyond that.
        request: from a number to the kind of that request and its bytes.
        timeout_s: after which a request has failed.

    Raises:
        InputError: a rate or time that is not above 0.
    """
    if rate <= 0 or seconds <= 0:
        raise InputError(f"rate {rate} and seconds {seconds}: both have to be above 0.")
    return asyncio.run(_ask_all(address, rate, seconds, request, timeout_s))


async def _ask_all(
    address: tuple[str, int],
    rate: float,
    seconds: float,
    request: Callable[[int], tuple[str, bytes]],
    timeout_s: float,
) -> dict[str, Tally]:
    connections, tallies = Connections(*address), dict[str, Tally]()

    async def one(number: int, due: float) -> None:
        kind, sent = request(number)
        tally = tallies.setdefault(kind, Tally())
        tally.late_s = max(tally.late_s, time.perf_counter() - due)
        try:
            status = await asyncio.wait_for(connections.ask(sent), timeout_s)
        except (OSError, asyncio.TimeoutError, EOFError, ValueError):
            status = 0
        tally.add(status, time.perf_counter() - due)

    start, asked = time.perf_counter(), list[asyncio.Task[None]]()
    for number in range(max(1, round(rate * seconds))):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        asked.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*asked)
    connections.close()
    return tallies
