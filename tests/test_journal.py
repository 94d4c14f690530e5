"""A flipped bit in RocksDB's logs is noticed; what a killed process leaves is not taken for one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact

from pcompiler.errors import DamageError
from pcompiler.store.db import Store

COUNT = 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A store as a killed writer leaves it: everything acknowledged is in the log only."""
    with Store(tmp_path / "live") as store:
        for number in range(COUNT):
            store.put(artifact(number), PROMPT, PROBES)
        shutil.copytree(tmp_path / "live", tmp_path / "killed")
    return tmp_path / "killed"


def log_of(folder: Path) -> Path:
    (log,) = (p for p in folder.glob("*.log") if p.stat().st_size)
    return log


def test_what_a_killed_writer_leaves_is_all_there(killed: Path) -> None:
    with Store(killed) as store:
        assert len(list(store.headers())) == COUNT


@pytest.mark.parametrize("name", ["log", "MANIFEST"])
def test_no_flipped_bit_shortens_the_list_silently(killed: Path, tmp_path: Path, name: str) -> None:
    path = log_of(killed) if name == "log" else next(killed.glob("MANIFEST-*"))
    whole = path.read_bytes()
    places = [*range(7), *range(7, len(whole), max(1, len(whole) // 40))]  # all of the first head
    for place in places:
        for bit in (0, 3, 7):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(killed, copy)
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            (copy / path.name).write_bytes(flipped)
            with pytest.raises(DamageError), Store(copy, access="read") as store:
                list(store.headers())


def test_a_log_that_ends_anywhere_still_opens_with_all_before_it(
    killed: Path, tmp_path: Path
) -> None:
    path = log_of(killed)
    whole = path.read_bytes()
    seen = []
    for end in range(0, len(whole) + 1, max(1, len(whole) // 40)):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(killed, copy)
        (copy / path.name).write_bytes(whole[:end])
        with Store(copy) as store:
            seen.append(len(list(store.headers())))
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] >= COUNT - 1


def test_a_store_that_lost_its_current_file_is_not_begun_anew(killed: Path) -> None:
    (killed / "CURRENT").unlink()
    for read_only in (True, False):
        with pytest.raises(DamageError, match="CURRENT"):
            Store(killed, access="read" if read_only else "write")
