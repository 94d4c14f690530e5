"""Runs the workers: Granian accepts, starts them, and replaces one that dies."""

from __future__ import annotations

import logging
import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from pcompiler.config import Config
from pcompiler.errors import ConfigError
from pcompiler.serve.contract import Backend
from pcompiler.serve.http import guards
from pcompiler.serve.http.keys import Keys, read_keys
from pcompiler.serve.http.worker import Setup, Worker
from pcompiler.serving import ServeConfig

HEAD_BYTES = 2**16  # of a request's head, at most
CRASHES, CRASHING_S = 5, 120.0  # so often within so long: workers that cannot live
PAUSE_S = 0.5
log = logging.getLogger("pcompiler.serve")


@dataclass(frozen=True)
class Load:
    """Makes the worker, in its own process."""

    setup: Setup

    def __call__(self, *_: object) -> Worker:
        """The worker."""
        return Worker(self.setup)


def checked_keys(settings: ServeConfig) -> Keys | None:
    """The clients' keys.

    Raises:
        ConfigError: the key file is none, or the server could be reached from elsewhere without.
    """
    if settings.api_key_file:
        return read_keys(settings.api_key_file)
    if not guards.is_loopback(settings.host):
        raise ConfigError(
            f"host {settings.host!r} can be reached from other machines; give --api-key-file, or "
            "listen at 127.0.0.1."
        )
    return None


def free_port(host: str, port: int) -> int:
    """The port to listen at.

    Raises:
        ConfigError: it is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            raise ConfigError(
                f"cannot listen at {host}:{port}: {e.strerror}. Give another --host or --port."
            ) from None
        found: int = probe.getsockname()[1]
        return found


def serve(
    config: Config,
    keys: Keys | None,
    port: int,
    backend: Callable[[], Backend],
    folder: Path,
    started: Callable[[], object] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        config: all settings.
        keys: see ``checked_keys``.
        port: see ``free_port``.
        backend: called in each worker; has to be picklable by name.
        folder: for what workers share; for this server alone, and after ``metrics.prepare``.
        started: called once the server listens.
    """
    settings = config.serve
    multiprocessing.set_start_method("spawn", force=True)  # never a copy of a process with threads
    hosts = guards.LOOPBACK_NAMES if guards.is_loopback(settings.host) else ()
    setup = Setup(config, keys, backend, folder / "limits", frozenset(hosts))
    times: list[float] = []
    while not _served(_granian(settings, port), setup, started, times):
        started = _told_already


def _served(server: Any, setup: Setup, started: Callable[[], object], times: list[float]) -> bool:  # noqa: ANN401
    """Serve; False: workers died so fast that Granian gave up, and it is to begin anew.

    Raises:
        SystemExit: it gave up for the last of ``CRASHES`` times within ``CRASHING_S``.
    """
    server.on_startup(started)
    try:
        server.serve(target_loader=Load(setup), wrap_loader=False)
    except SystemExit:
        now = time.monotonic()
        times[:] = [*(t for t in times if now - t < CRASHING_S), now]
        if len(times) >= CRASHES:
            raise
        log.warning("workers died twice within seconds; starting them again.")
        time.sleep(PAUSE_S)
        return bool(server.interrupt_signal)  # told to stop meanwhile
    return True


def _told_already() -> None:
    """Nothing: that it listens was said when it first did."""


def _granian(settings: ServeConfig, port: int) -> Any:  # noqa: ANN401 - one of several classes
    return Granian(
        "pcompiler",
        address=settings.host,
        port=port,
        interface=Interfaces.RSGI,
        workers=settings.workers,
        loop=Loops.auto,
        http=HTTPModes.http1,
        websockets=False,
        backlog=min(settings.connections, 4_096),
        backpressure=settings.connections,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.header_s * 1_000), max_buffer_size=HEAD_BYTES
        ),
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=max(1, int(settings.drain_s)),
    )
