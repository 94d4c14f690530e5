"""``pcompiler serve``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pcompiler.commands import options, output
from pcompiler.config import Config
from pcompiler.errors import ConfigError

_NEEDED = ("fastapi", "granian", "prometheus_client")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, which let requests under way end."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f"serving needs {', '.join(missing)}: pip install 'pcompiler[serve]'.")
    from pcompiler.serve import metrics
    from pcompiler.serve.http.server import checked_keys, free_port, serve

    config = options.config(args)
    if config.store.remote:
        from pcompiler.remote.bucket import Bucket

        Bucket(config.store.remote, config.store.remote_timeout_s).close()  # refused here, or never
    keys = checked_keys(config.serve)
    port = free_port(config.serve.host, config.serve.port)
    config = replace(config, serve=replace(config.serve, port=port))
    signal.signal(signal.SIGTERM, _stop)  # until the workers' supervisor has its own
    with tempfile.TemporaryDirectory(prefix="pcompiler-serve-") as name:
        folder = Path(name)
        metrics.prepare(folder / "metrics")
        from pcompiler.serve.client import Client
        from pcompiler.serve.supervisor import Supervisor

        with Supervisor(config, folder):
            started = partial(_told, config, args.json)
            serve(config, keys, port, partial(Client, folder), folder, started)
    return 0


def _stop(_: int, __: FrameType | None) -> NoReturn:
    sys.exit(0)


def _told(config: Config, as_json: bool) -> None:
    host = f"[{config.serve.host}]" if ":" in config.serve.host else config.serve.host
    url = f"http://{host}:{config.serve.port}"
    if as_json:
        output.json_line({"url": url, "pid": os.getpid(), "store": str(config.store.folder)})
    else:
        print(f"{config.model.name} at {url}, artifacts in {config.store.folder}; Ctrl-C stops it")
    sys.stdout.flush()
