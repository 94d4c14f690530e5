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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benches import script
from pcompiler import progress
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.load_modes import mixed, opened, soak
from pcompiler.bench.load_server import Server, fill, response, running
from pcompiler.errors import InputError
from pcompiler.table import render

HERE = Path(__file__).parent
AFTER_S = 2.0
SOAK_LEAST = 0.3  # minutes: samples enough for a slope
REFERENCE = {"requests_s": 15_000.0, "p50_ms": 45.0, "max_ms": 180.0, "success": 0.9997}


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
    if args.minutes is not None and args.minutes < SOAK_LEAST:
        raise InputError(f"--minutes {args.minutes:g} is too short; give {SOAK_LEAST} or more.")
    if args.rate is not None and (args.rate <= 0 or args.minutes):
        raise InputError("--rate has to be above 0, and does not go with --minutes.")
    if args.quick:
        args.seconds, args.rounds = min(args.seconds, 2.0), 1
        args.minutes = args.minutes and min(args.minutes, SOAK_LEAST)
    if args.mixed or args.rate:
        return other(args)
    if shutil.which("wrk") is None:
        raise InputError("wrk is not here; install it, as in: apt-get install wrk.")
    if args.minutes:
        return other(args)
    with tempfile.TemporaryDirectory() as name:
        rounds, size = measure(args, Path(name))
    found = summary(rounds) | {"response_bytes": size, "connections": args.connections}
    print(f"{hardware()}; commit {commit() or 'unknown'}\n\n{table(found)}")
    if args.json:
        told = {"hardware": hardware(), "commit": commit(), **found, "rounds": rounds}
        text = json.dumps(told, default=asdict)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return int(found["success"] < REFERENCE["success"])


def other(args: argparse.Namespace) -> int:
    """The open loop, the mixed load or the soak: figures of our server alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = fill(folder / "store")
        (folder / "paths").write_text("\n".join(paths) + "\n")
        serve = ["-m", "pcompiler", "serve", "--port", "0", "--json"]
        serve += ["--store", str(folder / "store"), "--workers", str(args.workers)]
        with running(serve) as ours:
            response(f"{ours.url}/readyz")
            if args.minutes:
                args.seconds = args.minutes * 60
                found = soak(ours.pid, lambda: asdict(load(ours, folder / "paths", args)))
            elif args.mixed:
                found = mixed(ours.url, paths, args.rate or 200.0, args.seconds, args.rounds)
            else:
                found = opened(ours.url, paths, args.rate, args.seconds)
    told = {"hardware": hardware(), "commit": commit(), **found}
    rows = [(key, str(value)) for key, value in told.items() if key != "rss_mb"]
    print(render(("figure", "value"), rows))
    if args.json:
        text = json.dumps(told)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


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
    mode = p.add_mutually_exclusive_group()
    mode.add_argument("--mixed", action="store_true", help="5 %% chats among them, open loop")
    mode.add_argument("--minutes", type=float, help="soak: whether memory stays flat")
    p.add_argument("--rate", type=float, help="open loop: requests a second (--mixed: 200)")
    p.add_argument("--quick", action="store_true", help="one short round")
    p.add_argument("--json", metavar="FILE", help="write the figures; - prints them last")
    return script.main("concurrent_load_test", p, run, argv)


if __name__ == "__main__":
    sys.exit(main())
