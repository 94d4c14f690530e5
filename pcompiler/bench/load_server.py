"""Servers that are put under load: started, filled, and their processes' CPU time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pcompiler.errors import PcompilerError

ROOT = Path(__file__).parents[2]
ARTIFACTS = 1_000
PROMPT = "You are the desk of a bicycle shop. We open at nine and close at six. Bring your lock."
READY_S = 120.0
OURS = ("date", "server", "content-length", "connection")  # headers that the web server adds itself


def fill(store: Path, model: str) -> list[str]:
    """Compile a prompt and store it under 1,000 ids; returns their paths."""
    from pcompiler.compiler import Compiler

    with Compiler(model, store=store) as compiler:
        header = compiler.compile(PROMPT, "text", ["When do you open?"]).header
        artifact = compiler.store.get(header.id)
        source = compiler.store.source(header.prompt_hash) or ""
        probes = compiler.store.probes(header.probes_hash) or ""
        ids = [f"{number:024x}" for number in range(ARTIFACTS)]
        for name in ids:
            copy = replace(artifact, header=replace(header, id=name))
            compiler.store.put(copy, source, probes)
    return [f"/v1/artifacts/{name}" for name in ids]


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds of it and of its processes, so far; 0 where there is no /proc."""
        parents: dict[int, list[int]] = {}
        used: dict[int, float] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                words = path.read_text().rpartition(")")[2].split()
                parents.setdefault(int(words[1]), []).append(int(path.parent.name))
                used[int(path.parent.name)] = sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")
        family = [self.pid]
        for pid in family:
            family += parents.get(pid, [])
        return sum(used.get(pid, 0.0) for pid in family)


@contextmanager
def running(command: Sequence[str]) -> Iterator[Server]:
    """A server, once it listens."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(  # noqa: S603
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().strip()
            if not line:
                raise PcompilerError(f"{' '.join(command)} did not start.")
            told = json.loads(line)
            url = told["url"] if isinstance(told, dict) else f"http://127.0.0.1:{told}"
            yield Server(url, process.pid)
        finally:
            process.terminate()


def response(url: str) -> tuple[list[tuple[str, str]], str]:
    """Headers and body of an answer, waited for."""
    end = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
                told = [(k.lower(), v) for k, v in answer.getheaders() if k.lower() not in OURS]
                return told, answer.read().decode()
        except OSError:  # noqa: PERF203
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
