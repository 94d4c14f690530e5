"""Limits hold over all workers of a server, and what a killed worker held is free again."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pcompiler.errors import Busy
from pcompiler.serve.http.limits import Limits
from pcompiler.serving import ServeConfig

HOLD = """
import sys
from pathlib import Path
from pcompiler.serve.http.limits import Limits
from pcompiler.serving import ServeConfig

limits = Limits(Path(sys.argv[1]), ["alice", "bob"], ServeConfig(workers=2, concurrency=3, rate=0))
with limits.work("alice"), limits.work("alice"):
    print("holding", flush=True)
    sys.stdin.read()
"""


def made(path: Path, **settings: float) -> Limits:
    config = ServeConfig(**{"workers": 2, **settings})  # type: ignore[arg-type]
    return Limits(path, ["alice", "bob"], config)


def spent(limits: Limits, client: str) -> int:
    """Requests until the bucket is empty."""
    number = 0
    with suppress(Busy):
        for number in range(1_000):  # noqa: B007
            with limits.work(client):
                pass
    return number


def test_a_bucket_is_shared_by_workers_and_by_no_other_client(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with made(path, rate=0.5, burst=7) as one, made(path, rate=0.5, burst=7) as other:
        assert spent(one, "alice") == 7
        assert spent(other, "alice") == 0
        assert spent(other, "bob") == 7


def test_a_bucket_fills_again_at_its_rate_and_says_when(tmp_path: Path) -> None:
    with made(tmp_path / "l", rate=20, burst=3) as limits:
        assert spent(limits, "alice") == 3
        with pytest.raises(Busy) as caught, limits.work("alice"):
            pass
        assert 0 < caught.value.retry_after_s <= 1 / 20
        time.sleep(caught.value.retry_after_s)
        assert spent(limits, "alice") == 1


def test_look_ups_have_a_bucket_of_their_own_or_none(tmp_path: Path) -> None:
    with made(tmp_path / "l", rate=0.1, burst=1, read_rate=0.1, read_burst=2) as limits:
        assert spent(limits, "alice") == 1
        limits.look_up("alice")
        limits.look_up("alice")
        with pytest.raises(Busy):
            limits.look_up("alice")
    with made(tmp_path / "m") as unlimited:
        for _ in range(2_000):
            unlimited.look_up("alice")


def test_requests_side_by_side_are_counted_over_workers_until_they_end_or_are_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "l"
    command = [sys.executable, "-c", HOLD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holding\n"
        with made(path, concurrency=3, rate=0) as limits, limits.work("bob"), limits.work("alice"):
            with pytest.raises(Busy, match="3 requests"), limits.work("alice"):
                pass
            other.kill()
            other.wait()
    with made(path, concurrency=3, rate=0) as successor, successor.work("alice"):  # in its place
        with successor.work("alice"), successor.work("alice"):
            pass
        with successor.work("alice"):
            pass


def test_a_request_that_fails_gives_its_place_back(tmp_path: Path) -> None:
    with made(tmp_path / "l", concurrency=1, rate=0) as limits:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), limits.work("alice"):
                raise ZeroDivisionError
        with limits.work("alice"):
            pass
