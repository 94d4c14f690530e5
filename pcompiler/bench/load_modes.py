"""Load on a server in three ways: at a constant rate, with chats among it, and for long."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from pcompiler.bench.held import rss_of
from pcompiler.bench.load import Tally, message, open_loop
from pcompiler.bench.load_closed import REFERENCE, Round
from pcompiler.bench.slope import slope

CHAT_EVERY = 20  # requests: 5 %, held by arrivals, as answers that take seconds hold no one back
SAMPLE_S = 1.0
WARM_S = 1.0
FLAT_MB_MINUTE = 0.5  # growth beyond doubt that is no longer called flat
MOST_RATIO = 3.0  # of the look-ups' p99 among chats to theirs alone


def told(tally: Tally, kind: str) -> dict[str, float]:
    """The figures of one kind of requests, latencies in ms."""
    found = {
        "asked": tally.asked,
        "success": tally.success,
        "refused": tally.refused,
        "failed": tally.failed,
        "generator_late_ms": tally.late_s * 1e3,
    }
    if tally.seconds:
        of = tally.latency()
        found |= {"p50_ms": of.p50 * 1e3, "p99_ms": of.p99 * 1e3, "max_ms": of.most * 1e3}
    return {f"{kind}_{name}": value for name, value in found.items()}


def opened(url: str, paths: Sequence[str], rate: float, seconds: float) -> dict[str, float]:
    """Look-ups at a constant rate."""
    return told(_asked(url, paths, rate, seconds, 0)["lookups"], "lookups")


def mixed(
    url: str, paths: Sequence[str], rate: float, seconds: float, rounds: int
) -> dict[str, float]:
    """Look-ups alone and with 5 % chats, in turns, at the same rate of look-ups."""
    alone, among, chats = Tally(), Tally(), Tally()
    share = 1 - 1 / CHAT_EVERY
    _asked(url, paths, rate * share, WARM_S, 0)
    for _ in range(rounds):
        _merge(alone, _asked(url, paths, rate * share, seconds, 0)["lookups"])
        found = _asked(url, paths, rate, seconds, CHAT_EVERY)
        _merge(among, found["lookups"])
        _merge(chats, found["chats"])
    figures = told(alone, "unmixed") | told(among, "mixed") | told(chats, "chats")
    if alone.seconds and among.seconds:
        figures["p99_ratio"] = among.latency().p99 / alone.latency().p99
    return figures


def _merge(into: Tally, one: Tally) -> None:
    into.seconds += one.seconds
    into.refused += one.refused
    into.failed += one.failed
    into.late_s = max(into.late_s, one.late_s)


def _asked(
    url: str, paths: Sequence[str], rate: float, seconds: float, every: int
) -> dict[str, Tally]:
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80
    lookups = [message("GET", path, host) for path in paths]
    body = {
        "model": paths[0].rpartition("/")[2],
        "messages": [{"role": "user", "content": "When do you open?"}],
        "max_tokens": 4,
    }
    chat = message("POST", "/v1/chat/completions", host, json.dumps(body).encode())

    def request(number: int) -> tuple[str, bytes]:
        if every and number % every == every - 1:
            return "chats", chat
        return "lookups", lookups[number % len(lookups)]

    return open_loop((host, port), rate, seconds, request)


def soak(pid: int, load: Callable[[], Round]) -> dict[str, Any]:
    """Resident memory of a server's processes while it is under load; the first third warms up."""
    minutes: list[float] = []
    megabytes: list[float] = []
    done, start = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            minutes.append((time.monotonic() - start) / 60)
            megabytes.append(resident_mb(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = load()
    finally:
        done.set()
        watcher.join()
    warm = len(minutes) // 3
    grown = slope(minutes[warm:], megabytes[warm:])
    return {
        **asdict(found),
        "success": found.success,
        "mb_minute": grown.value,
        "mb_minute_low": grown.low,
        "mb_minute_high": grown.high,
        "flat": not grown.exceeds(FLAT_MB_MINUTE),
        "rss_mb": megabytes,
    }


def missed(found: Mapping[str, Any]) -> list[str]:
    """What the figures of any mode fall short of, in words.

    Chats that are refused are none of it: more of them are asked for than a small machine can
    answer, and a server says so.
    """
    least, faults = REFERENCE["success"], list[str]()
    for kind in ("", "lookups_", "unmixed_", "mixed_"):
        share = found.get(f"{kind}success", 1.0)
        if share < least:
            faults.append(f"{kind}success is {share:.3%}; {least:.2%} are needed.")
    if found.get("chats_failed", 0) > (1 - least) * found.get("chats_asked", 0):
        faults.append(f"{found['chats_failed']} chats got another answer than 200, 429 or 503.")
    if (ratio := found.get("p99_ratio", 0.0)) > MOST_RATIO:
        faults.append(
            f"the look-ups' p99 among chats is {ratio:.1f} times theirs alone; {MOST_RATIO:g} are "
            "allowed. It says something only on a machine that does nothing else."
        )
    if not found.get("flat", True):
        faults.append(f"memory grew by {found['mb_minute']:.1f} MB a minute.")
    return faults


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all below it, shared pages counted in each."""
    import psutil

    below = psutil.Process(pid).children(recursive=True)
    return rss_of((pid, *(process.pid for process in below))) / 2**20
