"""1,000 connections that look artifacts up, beside a bare handler that sends the same bytes.

The server is ``pcompiler serve`` as it is, metrics on; the bare handler (``bare_handler.py``) is
the same web server without a store, and sends one of the server's own responses. wrk asks both in
turns, each connection as soon as it has its answer (a closed loop), for 1,000 different artifacts.

    python benches/concurrent_load_test.py --seconds 10 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benches import script
from pcompiler import progress
from pcompiler.bench.harness import commit, hardware
from pcompiler.errors import InputError, PcompilerError
from pcompiler.table import render

HERE = Path(__file__).parent
ARTIFACTS = 1_000
PROMPT = "You are the desk of a bicycle shop. We open at nine and close at six. Bring your lock."
AFTER_S, READY_S = 2.0, 120.0
REFERENCE = {"requests_s": 15_000.0, "p50_ms": 45.0, "max_ms": 180.0, "success": 0.9997}
OURS = ("date", "server", "content-length", "connection")  # headers that the web server adds itself


@dataclass(frozen=True)
class Round:
    """What wrk saw in one round.

    Attributes:
        requests_s: answered, a second.
        p50_ms: median latency.
        p99_ms: 99th percentile.
        max_ms: the slowest.
        cpu_us: of the server's processes, for each request.
        failed: requests without a good answer.
        requests: all of them.
    """

    requests_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    failed: int
    requests: int


def fill(store: Path) -> list[str]:
    """Compile a prompt and store it under 1,000 ids; returns their paths."""
    from pcompiler.compiler import Compiler

    with Compiler(store=store) as compiler:
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
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
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


def load(server: Server, paths: Path, args: argparse.Namespace) -> Round:
    """One round."""
    command = ["wrk", f"-t{args.threads}", f"-c{args.connections}", f"-d{args.seconds:g}s"]
    before = server.cpu_s()
    done = subprocess.run(  # noqa: S603
        [*command, "--timeout", "10s", "-s", str(HERE / "lookups.lua"), server.url],
        env=os.environ | {"PATHS": str(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Round(
        requests_s=told["requests"] / told["duration_us"] * 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        max_ms=told["max_us"] / 1e3,
        cpu_us=(server.cpu_s() - before) / max(1, told["requests"]) * 1e6,
        failed=told["failed"],
        requests=told["requests"] + told["failed"],
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print; exit with 1 where too many requests failed."""
    script.check_outputs(args.json)
    if shutil.which("wrk") is None:
        raise InputError("wrk is not here; install it, as in: apt-get install wrk.")
    with tempfile.TemporaryDirectory() as name:
        rounds, size = measure(args, Path(name))
    found = summary(rounds) | {"response_bytes": size, "connections": args.connections}
    print(f"{hardware()}; commit {commit() or 'unknown'}\n\n{table(found)}")
    if args.json:
        told = {"hardware": hardware(), "commit": commit(), **found, "rounds": rounds}
        text = json.dumps(told, default=asdict)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return int(found["success"] < REFERENCE["success"])


def measure(args: argparse.Namespace, folder: Path) -> tuple[dict[str, list[Round]], int]:
    """Rounds of both, in turns, and the bytes of a response's body."""
    paths = fill(folder / "store")
    (folder / "paths").write_text("\n".join(paths) + "\n")
    workers = ["--workers", str(args.workers)]
    serve = ["-m", "pcompiler", "serve", "--port", "0", "--json", "--store", str(folder / "store")]
    with running([*serve, *workers]) as ours:
        headers, body = response(f"{ours.url}{paths[0]}")
        given = folder / "response.json"
        given.write_text(json.dumps({"headers": headers, "body": body}))
        response(f"{ours.url}/readyz")
        with running([str(HERE / "bare_handler.py"), str(given), str(args.workers)]) as bare:
            response(bare.url)
            rounds: dict[str, list[Round]] = {"bare": [], "ours": []}
            both = {"bare": bare, "ours": ours}
            with progress.bar(2 * args.rounds, "asking", "round") as shown:
                for _ in range(args.rounds):
                    for which, server in both.items():
                        time.sleep(AFTER_S)
                        rounds[which].append(load(server, folder / "paths", args))
                        shown.update(1)
    return rounds, len(body)


def summary(rounds: dict[str, list[Round]]) -> dict[str, float]:
    """Medians over rounds; the maximum is that of all, and so is success."""
    found: dict[str, float] = {}
    for which, of in rounds.items():
        for name in ("requests_s", "p50_ms", "p99_ms", "cpu_us"):
            found[f"{which}_{name}"] = statistics.median(getattr(one, name) for one in of)
        found[f"{which}_max_ms"] = max(one.max_ms for one in of)
    shares = [o.requests_s / b.requests_s for b, o in zip(*rounds.values(), strict=True)]
    failed, asked = (sum(getattr(o, n) for o in rounds["ours"]) for n in ("failed", "requests"))
    return {**found, "share": statistics.median(shares), "success": 1 - failed / asked}


def table(found: dict[str, float]) -> str:
    """For people."""
    rows = [
        ("requests a second", "ours_requests_s", "bare_requests_s", "requests_s", "{:,.0f}"),
        ("latency, median (reference: mean), ms", "ours_p50_ms", "bare_p50_ms", "p50_ms", "{:.1f}"),
        ("… 99 %", "ours_p99_ms", "bare_p99_ms", "", "{:.1f}"),
        ("… maximum", "ours_max_ms", "bare_max_ms", "max_ms", "{:.1f}"),
        ("CPU time a request, µs", "ours_cpu_us", "bare_cpu_us", "", "{:.1f}"),
        ("success", "success", "", "success", "{:.2%}"),
        ("share of the bare handler's requests", "share", "", "", "{:.0%}"),
    ]
    shown = []
    for label, ours, bare, reference, form in rows:
        cells = ((ours, found), (bare, found), (reference, REFERENCE))
        shown.append(
            (label, *(form.format(values[name]) if name else "" for name, values in cells))
        )
    title = f"{found['connections']:.0f} connections, {found['response_bytes']:.0f} bytes"
    return render((title, "pcompiler", "bare handler", "reference"), shown)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    p.add_argument("--seconds", type=float, default=10.0, help="of a round (default 10)")
    p.add_argument("--rounds", type=int, default=5, help="of each server (default 5)")
    p.add_argument("--connections", type=int, default=1_000, help="(default 1,000)")
    p.add_argument("--workers", type=int, default=1, help="of each server (default 1)")
    p.add_argument("--threads", type=int, default=1, help="of wrk (default 1)")
    p.add_argument("--json", metavar="FILE", help="write the figures; - prints them last")
    return script.main("concurrent_load_test", p, run, argv)


if __name__ == "__main__":
    sys.exit(main())
