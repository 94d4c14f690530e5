"""Starts the processes behind the workers, brings back one that dies, ends them in good order."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pcompiler
from pcompiler.closing import Closing
from pcompiler.config import Config
from pcompiler.errors import ConfigError, PcompilerError
from pcompiler.serve.client import Client
from pcompiler.serve.process import GRACE_S, NAMES, encode, socket_of

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
STEADY_S = 60.0  # a process that lived so long is started again at once
POLL_S, WATCH_S = 0.1, 1.0
MAX_SOCKET_PATH = 100  # bytes that Unix allows, or a little less
log = logging.getLogger("pcompiler.serve")


class Supervisor(Closing):
    """The generator and the compiler, as long as it is open.

    Args:
        config: all settings.
        folder: private to this user; for sockets.

    Attributes:
        folder: the same, for ``Client``.

    Raises:
        ConfigError: the folder's path is too long for sockets.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        if len(os.fsencode(socket_of(folder.absolute(), max(NAMES, key=len)))) > MAX_SOCKET_PATH:
            raise ConfigError(f"the path {folder} is too long for sockets; give a shorter one.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.folder = folder
        self._keepers = [_Keeper(name, config, folder.absolute()) for name in NAMES]

    def close(self) -> None:
        """End both: no new work, what is under way has ``drain_s``; then the store is closed."""
        for keeper in self._keepers:
            keeper.stop()
        for keeper in self._keepers:
            keeper.join()

    @property
    def processes(self) -> dict[str, int | None]:
        """Their ids by name; None: it is not there just now."""
        return {keeper.name: keeper.pid for keeper in self._keepers}

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """Wait until both answer.

        Raises:
            PcompilerError: they do not in that time; what they said is on standard error.
        """
        end = time.monotonic() + timeout_s
        while not all(asyncio.run(Client(self.folder).ready()).values()):
            if time.monotonic() > end:
                raise PcompilerError(
                    f"the server's processes were not there after {timeout_s:g} s."
                )
            time.sleep(POLL_S)


class _Keeper:
    """Keeps one process alive, on a thread."""

    def __init__(self, name: str, config: Config, folder: Path) -> None:
        self.name = name
        self._config, self._folder = config, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"keeper of {name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def stop(self) -> None:
        """Tell it to end, and do not bring it back."""
        with self._starting:
            self._stopping.set()
            if self.pid is not None and self._process is not None:
                self._process.terminate()

    def join(self) -> None:
        """Wait until it has ended; kill it where it does not."""
        self._thread.join(self._config.serve.drain_s + GRACE_S)
        if self.pid is not None and self._process is not None:
            log.warning("the %s did not end in time; it is killed.", self.name)
            self._process.kill()
        self._thread.join()

    def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            process = self._start()
            if process is None:
                return
            code = self._end_of(process)
            assert process.stdin is not None
            process.stdin.close()
            if self._stopping.is_set():
                return
            steady = time.monotonic() - started > STEADY_S
            pause = FIRST_PAUSE_S if steady else pause
            log.warning("the %s ended (%d); starting it again in %g s.", self.name, code, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _end_of(self, process: subprocess.Popen[bytes]) -> int:
        """Its exit code; it is killed once it hangs. Loading a model is no hanging."""
        client, heard = Client(self._folder), math.inf
        while True:
            try:
                return process.wait(WATCH_S)
            except subprocess.TimeoutExpired:
                pass
            if asyncio.run(client.answers(self.name)):
                heard = time.monotonic()
            elif time.monotonic() - heard > self._config.serve.hang_s:
                log.error("the %s hangs; it is killed.", self.name)
                process.kill()

    def _start(self) -> subprocess.Popen[bytes] | None:
        command = [sys.executable, "-m", "pcompiler.serve.process", self.name, str(self._folder)]
        where = str(Path(pcompiler.__file__).parent.parent)
        paths = [where, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        with self._starting:
            if self._stopping.is_set():
                return None
            # A group of its own: Ctrl-C is for the supervisor, who ends the others in order.
            self._process = subprocess.Popen(  # noqa: S603 - this Python, by its own path
                command, stdin=subprocess.PIPE, env=environment, start_new_session=True
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(self._config).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once, which whoever waits for it will see
        return self._process
