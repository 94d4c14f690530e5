"""1,000 connections that look artifacts up, beside a bare handler that sends the same bytes.

The server is ``pcompiler serve`` as it is, metrics on; the bare handler (``bare_handler.py``) is
the same web server without a store, and sends one of the server's own responses. wrk asks both in
turns, each connection as soon as it has its answer (a closed loop), for 1,000 different artifacts.

    python benches/concurrent_load_test.py --seconds 10 --rounds 5
    python benches/concurrent_load_test.py --rate 1000      # open loop
    python benches/concurrent_load_test.py --mixed          # … with 5 % chats in it
    python benches/concurrent_load_test.py --minutes 10     # whether memory stays flat

Exits with 1 where the run fell short: see ``load_modes.missed``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benches import script
from pcompiler import progress
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.load_closed import Load, Round, ask, summary, table
from pcompiler.bench.load_modes import missed, mixed, opened, soak
from pcompiler.bench.load_server import Server, fill, response, running
from pcompiler.errors import InputError
from pcompiler.table import render

HERE = Path(__file__).parent
AFTER_S = 2.0
SOAK_LEAST = 0.3  # minutes: samples enough for a slope
MIXED_RATE = 200.0
LONG = ("rounds", "rss_mb")  # figures for machines only


@dataclass(frozen=True)
class Ours:
    """Our server with 1,000 artifacts in its store.

    Attributes:
        server: where it listens.
        paths: of its artifacts.
        listed: the same as a file in ``folder``.
        folder: for whatever else a run needs.
    """

    server: Server
    paths: Sequence[str]
    listed: Path
    folder: Path


@contextmanager
def serving(args: argparse.Namespace) -> Iterator[Ours]:
    """Our server, filled, once everything in it answers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, listed = fill(folder / "store", args.model), folder / "paths"
        listed.write_text("\n".join(paths) + "\n")
        serve = ["-m", "pcompiler", "serve", "--port", "0", "--json", "--model", args.model]
        serve += ["--store", str(folder / "store"), "--workers", str(args.workers)]
        with running(serve) as server:
            response(f"{server.url}/readyz")
            yield Ours(server, paths, listed, folder)


def closed(ours: Ours, args: argparse.Namespace) -> dict[str, Any]:
    """Rounds of our server and of the bare handler, in turns."""
    headers, body = response(f"{ours.server.url}{ours.paths[0]}")
    given = ours.folder / "response.json"
    given.write_text(json.dumps({"headers": headers, "body": body}))
    with running([str(HERE / "bare_handler.py"), str(given), str(args.workers)]) as bare:
        response(bare.url)
        rounds: dict[str, list[Round]] = {"bare": [], "ours": []}
        with progress.bar(2 * args.rounds, "asking", "round") as shown:
            for _ in range(args.rounds):
                for which, server in (("bare", bare), ("ours", ours.server)):
                    time.sleep(AFTER_S)
                    rounds[which].append(ask(server, _load(ours, args)))
                    shown.update(1)
    return summary(rounds) | {"response_bytes": len(body), "connections": args.connections}


def _load(ours: Ours, args: argparse.Namespace) -> Load:
    return Load(HERE / "lookups.lua", ours.listed, args.connections, args.seconds, args.threads)


def measure(ours: Ours, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of the mode that was chosen."""
    url, paths, seconds = ours.server.url, ours.paths, args.seconds
    if args.mixed:
        return mixed(url, paths, args.rate or MIXED_RATE, seconds, args.rounds)
    if args.rate:
        return opened(url, paths, args.rate, seconds)
    if args.minutes:
        return soak(ours.server.pid, lambda: ask(ours.server, _load(ours, args)))
    return closed(ours, args)


def check(args: argparse.Namespace) -> None:
    """Before anything starts. Raises InputError: options that cannot be, or no wrk."""
    script.check_outputs(args.json)
    if args.minutes is not None and args.minutes < SOAK_LEAST:
        raise InputError(f"--minutes {args.minutes:g} is too short; give {SOAK_LEAST} or more.")
    if args.rate is not None and (args.rate <= 0 or args.minutes):
        raise InputError("--rate has to be above 0, and does not go with --minutes.")
    if not (args.mixed or args.rate) and shutil.which("wrk") is None:
        raise InputError("wrk is not here; install it, as in: apt-get install wrk.")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 where the run fell short."""
    check(args)
    if args.quick:
        args.seconds, args.rounds = min(args.seconds, 2.0), 1
        args.minutes = args.minutes and min(args.minutes, SOAK_LEAST)
    if args.minutes:
        args.seconds = args.minutes * 60
    with serving(args) as ours:
        found = measure(ours, args)
    told = {"hardware": hardware(), "commit": commit() or "unknown"}
    print(f"{told['hardware']}; commit {told['commit']}\n")
    print(table(found) if "share" in found else _listed(found))
    if args.json:
        text = json.dumps(told | found, default=asdict)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    for fault in (faults := missed(found)):
        print(f"concurrent_load_test: {fault}", file=sys.stderr)
    return int(bool(faults))


def _listed(found: dict[str, Any]) -> str:
    rows = [(key, _short(value)) for key, value in found.items() if key not in LONG]
    return render(("figure", "value"), rows)


def _short(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    p.add_argument("--seconds", type=float, default=10.0, help="of a round (default 10)")
    p.add_argument("--rounds", type=int, default=5, help="of each server (default 5)")
    p.add_argument("--connections", type=int, default=1_000, help="(default 1,000)")
    p.add_argument("--workers", type=int, default=1, help="of each server (default 1)")
    p.add_argument("--threads", type=int, default=1, help="of wrk (default 1)")
    p.add_argument("--model", default="smollm2", help="that is served (default smollm2)")
    mode = p.add_mutually_exclusive_group()
    mode.add_argument("--mixed", action="store_true", help="5 %% chats among them, open loop")
    mode.add_argument("--minutes", type=float, help="soak: whether memory stays flat")
    p.add_argument("--rate", type=float, help="open loop: requests a second (--mixed: 200)")
    p.add_argument("--quick", action="store_true", help="one short round")
    p.add_argument("--json", metavar="FILE", help="write the figures; - prints them last")
    return script.main("concurrent_load_test", p, run, argv)


if __name__ == "__main__":
    sys.exit(main())
