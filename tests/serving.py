"""A server in a process of its own, with the in-process backend; run as a script, it is that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from pcompiler.config import Config, ModelConfig, ProbeConfig, StoreConfig
from pcompiler.serve.contract import Backend
from pcompiler.serving import ServeConfig

ROOT = Path(__file__).parent.parent
START_S = 60.0


def _command(pid: int) -> bytes:
    """A process's command line; empty if it is gone meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@dataclass
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str
    store: Path

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    @property
    def workers(self) -> list[int]:
        """Ids of the worker processes: children that are not multiprocessing's own."""
        children = Path(f"/proc/{self.process.pid}/task")
        ids = [
            int(c) for task in children.iterdir() for c in (task / "children").read_text().split()
        ]
        return [pid for pid in ids if b"spawn_main" in _command(pid)]

    def stop(self, timeout_s: float = 40) -> int:
        with self.process as process:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            return process.wait(timeout_s)


def start(model: Path, store: Path, remote: str = "", **settings: Any) -> Server:
    """A server for a model folder; settings are those of [serve]."""
    stored = {"path": str(store), "remote": remote, "remote_timeout_s": 2.0, "remote_absent_s": 1.0}
    told = json.dumps({"model": str(model), "store": stored, "serve": settings})
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, __file__, told],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the server did not start"
    server = Server(process, f"http://127.0.0.1:{int(line)}", store)
    ready(server)
    return server


def ready(server: Server) -> None:
    """Wait until a worker answers."""
    with httpx.Client(base_url=server.url, transport=httpx.HTTPTransport(retries=8)) as client:
        assert client.get("/healthz", timeout=START_S).status_code == 200


def backend(config: Config) -> Backend:
    """Called in the worker, which has torch then."""
    from in_process_backend import InProcess

    return InProcess(config)


def main(told: str) -> None:
    from pcompiler.serve import metrics
    from pcompiler.serve.http.server import checked_keys, free_port, serve

    given = json.loads(told)
    config = Config(
        model=ModelConfig(given["model"], "cpu"),
        probes=ProbeConfig(
            self_study=3, fitting=18, query_tokens=8, answer_tokens=6, precision="model"
        ),
        store=StoreConfig(**given["store"]),
        serve=ServeConfig(**given["serve"]),
    )
    keys = checked_keys(config.serve)
    port = free_port(config.serve.host, 0)
    config = replace(config, serve=replace(config.serve, port=port))
    with tempfile.TemporaryDirectory() as folder:
        metrics.prepare(Path(folder) / "metrics")
        made = partial(backend, config)
        serve(config, keys, port, made, Path(folder), lambda: print(port, flush=True))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
