"""What a client may ask for, counted over all workers: a rate, and requests side by side.

The workers of a server share one small file in memory, 8 bytes a number:

    rates    a row for each client: when its bucket will be full again (GCRA, one number for a
             token bucket), for requests that need a model and for all others
    under way    a table for each worker, a number for each client: requests that need a model

A record lock on the file's first byte keeps two workers from changing rates at once; one on a
byte of its own marks a worker as alive. The kernel drops both when a worker is killed, and what
it had counted is cleared by the one that takes its place.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pcompiler.closing import Closing
from pcompiler.errors import Busy
from pcompiler.serving import ServeConfig

_NUMBER = struct.Struct("<d")
_COUNT = struct.Struct("<q")
SPARE = 8  # workers that may start before those they take the place of are gone


class Limits(Closing):
    """One worker's view of the limits.

    Args:
        path: the file that the workers of one server share; made where it is missing.
        clients: their names; anonymous ones are the client "".
        settings: rates, bursts and how many requests side by side.
    """

    def __init__(self, path: Path, clients: Sequence[str], settings: ServeConfig) -> None:
        self._settings = settings
        self._places = {name: place for place, name in enumerate(("", *clients))}
        rows, self._rates = settings.workers + SPARE, 16 * len(self._places)
        self._row_bytes = 8 * len(self._places)
        self._rows = rows
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = self._rates + rows * self._row_bytes
        os.truncate(self._file, size)
        self._shared = mmap.mmap(self._file, size)
        self._own = self._claim()

    def close(self) -> None:
        """Let go of the file, and of its locks with it."""
        if self._file >= 0:
            self._shared.close()
            os.close(self._file)
            self._file = -1

    def look_up(self, client: str) -> None:
        """Count a request that the store alone answers. Raises Busy: too many a second."""
        if self._settings.read_rate:
            self._spend(client, 8, self._settings.read_rate, self._settings.read_burst)

    @contextmanager
    def work(self, client: str) -> Iterator[None]:
        """Count a request that needs a model, and hold its place while it is under way.

        Raises:
            Busy: too many a second, or side by side.
        """
        settings = self._settings
        if self._under_way(client) >= settings.concurrency:
            raise Busy(
                f"{settings.concurrency} requests of yours are under way already; wait for one "
                "of them."
            )
        if settings.rate:
            self._spend(client, 0, settings.rate, settings.burst)
        self._add(client, 1)
        try:
            yield
        finally:
            self._add(client, -1)

    def _spend(self, client: str, offset: int, rate: float, burst: int) -> None:
        at = 16 * self._places[client] + offset
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 0)
        try:
            now = time.monotonic()  # the same clock in all processes of a machine
            full = max(_NUMBER.unpack_from(self._shared, at)[0], now)
            wait = full + 1 / rate - now - burst / rate
            if wait > 1e-9:
                raise Busy(f"more than {rate:g} requests a second; come back later.", wait)
            _NUMBER.pack_into(self._shared, at, full + 1 / rate)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0)

    def _under_way(self, client: str) -> int:
        place = self._rates + 8 * self._places[client]
        rows = (place + row * self._row_bytes for row in range(self._rows))
        return sum(_COUNT.unpack_from(self._shared, at)[0] for at in rows)

    def _add(self, client: str, change: int) -> None:
        if self._file < 0:
            return
        at = self._own + 8 * self._places[client]
        (before,) = _COUNT.unpack_from(self._shared, at)
        _COUNT.pack_into(self._shared, at, before + change)

    def _claim(self) -> int:
        """Where this worker's row begins: the first that no living worker holds."""
        for row in range(self._rows):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 + row)
            except OSError:
                continue
            start = self._rates + row * self._row_bytes
            self._shared[start : start + self._row_bytes] = bytes(self._row_bytes)
            return start
        raise Busy(f"{self._rows} workers are running already.")
