"""Bars: who hears them, and what a terminal shows."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pcompiler import progress

COLUMNS = 80
ROWS = 30_000  # long enough for a bar, on a fast machine as well
BAR = re.compile(
    r"prompts: +(?P<done>\d+)%\|.*\| *[\d.]+k?/[\d.]+k? "
    r"\[\d\d:\d\d<\d\d:\d\d, +[\d.]+k?/s, (?P<found>\d+) % found, (?P<failed>\d+) failed\]"
)


def test_bars_are_heard_in_their_own_thread_only() -> None:
    heard: list[tuple[str, int, int]] = []

    def other() -> None:
        with progress.bar(3, "elsewhere") as shown:
            shown.update(3)

    with progress.heard(lambda *told: heard.append(told)):
        with progress.bar(4, "here") as shown:
            shown.update()
            shown.update(3)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert heard == [("here", 0, 4), ("here", 1, 4), ("here", 4, 4)]


@contextmanager
def on_a_terminal(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process whose standard error is a terminal of 80 columns, and the other end of that."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    try:
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=theirs, text=True
        ) as process:
            os.close(theirs)
            yield process, ours
    finally:
        os.close(ours)


def everything(terminal: int) -> str:
    """What is written on a terminal, until nobody has it any more."""
    said = b""
    with suppress(OSError):  # Linux says EIO then, others nothing
        while part := os.read(terminal, 65_536):
            said += part
    return said.decode()


@pytest.fixture
def corpus(tmp_path: Path) -> list[str]:
    """A command over that: each prompt comes twice, and one in a hundred fails."""
    rows = (f"Answer for desk {n // 2}." if n % 100 else "" for n in range(ROWS))
    lines = (json.dumps({"prompt": row}) + "\n" for row in rows)
    (tmp_path / "in.jsonl").write_text("".join(lines))
    words = ["corpus", "compile", "in.jsonl", "--target", "draft", "--store", "store", "--json"]
    return [sys.executable, "-m", "pcompiler", *words]


@pytest.mark.model  # its static table
def test_a_terminal_shows_rate_time_left_hit_rate_and_errors(
    tmp_path: Path, corpus: list[str]
) -> None:
    with on_a_terminal(corpus, tmp_path) as (process, terminal):
        drawn = everything(terminal)
        assert process.stdout is not None
        (told,) = process.stdout.read().splitlines()
    assert json.loads(told)["prompts"] == ROWS
    lines = [line for line in drawn.split("\r") if line.strip()]
    assert all(len(line.rstrip()) <= COLUMNS for line in lines)
    shown = [found for line in lines if (found := BAR.fullmatch(line.strip()))]
    assert len(shown) > 1
    last = shown[-1]
    assert 0 < int(last["failed"]) <= ROWS // 100
    assert 45 <= int(last["found"]) <= 50
    assert int(shown[0]["done"]) < int(last["done"])
    assert drawn.split("\r")[-1].strip() == ""  # it goes when all is done


@pytest.mark.model
def test_a_pipe_gets_nothing_of_a_bar(tmp_path: Path, corpus: list[str]) -> None:
    done = subprocess.run(corpus, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    (told,) = done.stdout.splitlines()
    summary = json.loads(told)
    assert summary["seconds"] > progress.DELAY_S  # a bar would have been shown
    assert (done.returncode, summary["failed"]) == (1, ROWS // 100)
