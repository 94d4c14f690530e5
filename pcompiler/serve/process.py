"""A process behind the workers: started by the supervisor, and never outliving it.

Its settings come as one line of JSON on standard input, which the supervisor then holds open: when
it ends, the supervisor is gone, and so is this process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pcompiler.config import Config
from pcompiler.errors import PcompilerError
from pcompiler.threads import patient_threads

if TYPE_CHECKING:
    from pcompiler.model import LanguageModel
    from pcompiler.serve.wire import Handler

NAMES = ("generator", "compiler")
NICE = 10  # behind the workers, whose look-ups take microseconds where a step takes many ms
LAST_WORDS_S = 1.0  # after the time to drain: for calls to be told how their work ended
GRACE_S = 5.0  # beyond the time to drain, until a process is ended whatever it does
log = logging.getLogger("pcompiler.serve")


class Part(Protocol):
    """What a process is for."""

    @property
    def handlers(self) -> dict[str, Handler]:
        """Calls by name."""
        ...

    async def start(self) -> None:
        """Begin to work, before the first call."""
        ...

    async def drain(self, seconds: float) -> None:
        """No new calls come; bring to an end what goes on without one."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


def encode(config: Config) -> str:
    """All settings as one line."""
    return json.dumps(dataclasses.asdict(config))


def decode(line: str) -> Config:
    """Undo ``encode``."""
    given, parts = json.loads(line), {}
    for section in dataclasses.fields(Config):
        assert callable(section.default_factory), "every section has defaults"
        parts[section.name] = type(section.default_factory())(**given[section.name])
    return Config(**parts)


def socket_of(folder: Path, name: str) -> Path:
    """Where a process takes calls."""
    return folder / f"{name}.sock"


def main(name: str, folder: str) -> None:
    """Run one process until SIGTERM, or until the supervisor is gone."""
    logging.basicConfig(format=f"pcompiler {name}: %(message)s", level=logging.WARNING)
    config = decode(sys.stdin.readline())
    threading.Thread(target=_follow_parent, args=(config,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor's, who passes on SIGTERM
    patient_threads()
    os.nice(NICE)
    _report(name)
    import torch

    from pcompiler.model import LanguageModel

    threads = getattr(config.serve, f"{name}_threads") or max(1, (os.cpu_count() or 1) // 2)
    torch.set_num_threads(threads)
    settings = config.model
    try:
        model = LanguageModel.load(settings.name, settings.device, settings.dtype)
        part = _part(name, config, model, Path(folder))
        asyncio.run(run(part, config, socket_of(Path(folder), name)))
    except PcompilerError as e:
        log.error("%s", e)
        sys.exit(e.exit_code)


def _part(name: str, config: Config, model: LanguageModel, folder: Path) -> Part:
    if name == "generator":
        from pcompiler.serve.generator import Generator

        return Generator(config, model)
    from pcompiler.serve.compiling import Compiling
    from pcompiler.serve.history import History

    return Compiling(config, model, History(folder / "jobs", config.serve.job_history))


async def run(part: Part, config: Config, path: Path) -> None:
    """Take calls until SIGTERM; then end what is under way, as far as there is time."""
    from pcompiler.serve.wire import Door

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    door, drain_s = Door(part.handlers), config.serve.drain_s
    await part.start()
    try:
        await door.open(path)
        await stop.wait()
        await asyncio.gather(door.close(drain_s + LAST_WORDS_S), part.drain(drain_s))
    finally:
        await part.close()


def _follow_parent(config: Config) -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(config.serve.drain_s + GRACE_S)
    os._exit(1)


def _report(name: str) -> None:
    """Numbers for Prometheus, where the supervisor has made room for them."""
    from pcompiler.serve import metrics

    if metrics.FOLDER in os.environ:
        metrics.start(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
