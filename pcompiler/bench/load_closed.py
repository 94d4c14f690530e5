"""A closed loop of look-ups by wrk: each connection asks again as soon as it has its answer."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcompiler.bench.load_server import Server
from pcompiler.table import render

REFERENCE = {"requests_s": 15_000.0, "p50_ms": 45.0, "max_ms": 180.0, "success": 0.9997}


@dataclass(frozen=True)
class Load:
    """What is asked, and by how many.

    Attributes:
        script: of wrk: ``benches/lookups.lua``.
        paths: a file of paths, one a line, that are asked for in turn.
        connections: side by side.
        seconds: of a round.
        threads: of wrk.
    """

    script: Path
    paths: Path
    connections: int = 1_000
    seconds: float = 10.0
    threads: int = 1


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

    @property
    def success(self) -> float:
        """Share answered well."""
        return 1 - self.failed / max(1, self.requests)


def ask(server: Server, load: Load) -> Round:
    """One round."""
    size = [f"-t{load.threads}", f"-c{load.connections}", f"-d{load.seconds:g}s"]
    before = server.cpu_s()
    done = subprocess.run(  # noqa: S603
        ["wrk", *size, "--timeout", "10s", "-s", str(load.script), server.url],  # noqa: S607
        env=os.environ | {"PATHS": str(load.paths)},
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


def summary(rounds: Mapping[str, Sequence[Round]]) -> dict[str, Any]:
    """Medians over rounds of "bare" and "ours"; the maximum is that of all, and so is success."""
    found: dict[str, Any] = {}
    for which, of in rounds.items():
        for name in ("requests_s", "p50_ms", "p99_ms", "cpu_us"):
            found[f"{which}_{name}"] = statistics.median(getattr(one, name) for one in of)
        found[f"{which}_max_ms"] = max(one.max_ms for one in of)
    bare, ours = rounds["bare"], rounds["ours"]
    shares = [o.requests_s / b.requests_s for b, o in zip(bare, ours, strict=True)]
    failed, asked = (sum(getattr(o, n) for o in ours) for n in ("failed", "requests"))
    share, success = statistics.median(shares), 1 - failed / max(1, asked)
    return {**found, "share": share, "success": success, "rounds": rounds}


def table(found: Mapping[str, Any]) -> str:
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
