"""Backups are verified copies; they are there whole or not at all, and so is what they restore."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact

from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, StoreUnavailable
from pcompiler.store.backup import backup, restore
from pcompiler.store.db import Store
from pcompiler.store.records import SEALED

Cli = Callable[..., tuple[int, str, str]]
CONFIG = StoreConfig()


def fill(folder: Path, count: int) -> None:
    with Store(folder) as store:
        for number in range(count):
            store.put(artifact(number), PROMPT, PROBES)


def test_a_backup_taken_while_a_writer_works_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    stop, written = threading.Event(), [0]

    def write(store: Store) -> None:
        while not stop.is_set():
            store.put(artifact(written[0]), PROMPT, PROBES)
            written[0] += 1
            time.sleep(0.0003)  # a store that grows faster than it is copied is never copied

    with Store(tmp_path / "s", settings=StoreConfig(write_buffer_mb=1)) as store:
        thread = threading.Thread(target=write, args=(store,))
        thread.start()
        try:
            for number in range(4):
                before = written[0]
                backup(tmp_path / "s", tmp_path / f"b{number}", CONFIG)
                after = written[0] + 1
                with Store(tmp_path / f"b{number}", "read") as copied:
                    found = [int(h.id, 16) for h in copied.headers()]
                assert found == list(range(len(found)))
                assert before <= len(found) <= after
        finally:
            stop.set()
            thread.join()
    assert written[0] > 10


def test_a_backup_restores_what_was_there_and_keeps_what_is_in_its_place(tmp_path: Path) -> None:
    fill(tmp_path / "s", 5)
    backup(tmp_path / "s", tmp_path / "b", CONFIG)
    with Store(tmp_path / "s") as store:
        store.delete(artifact(2).header.id)
        with pytest.raises(StoreUnavailable, match="another process"):
            restore(tmp_path / "b", tmp_path / "s", CONFIG, over=True)
    with pytest.raises(StoreUnavailable, match="--replace"):
        restore(tmp_path / "b", tmp_path / "s", CONFIG)
    _, kept = restore(tmp_path / "b", tmp_path / "s", CONFIG, over=True)
    with Store(tmp_path / "s") as store:
        assert store.get(artifact(2).header.id) == artifact(2)
    assert kept is not None
    with Store(kept, "read") as store:
        assert len(list(store.headers())) == 4
    count, kept = restore(tmp_path / "b", tmp_path / "new" / "s", CONFIG)
    assert (count, kept) == (5 + 5 + 1 + 1, None)


def test_a_damaged_backup_or_store_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "s", 3)
    backup(tmp_path / "s", tmp_path / "b", CONFIG)
    with Store(tmp_path / "b") as store:
        store.records.engine.write([("tensors", artifact(1).header.id.encode(), b"junk")])
    with pytest.raises(DamageError, match="tensors"):
        restore(tmp_path / "b", tmp_path / "s", CONFIG, over=True)
    with Store(tmp_path / "s", "read") as store:
        assert store.get(artifact(1).header.id) == artifact(1)
    with pytest.raises(DamageError):
        backup(tmp_path / "b", tmp_path / "c", CONFIG)
    with pytest.raises(StoreUnavailable, match="not empty"):
        backup(tmp_path / "s", tmp_path / "b", CONFIG)
    with pytest.raises(StoreUnavailable, match="no store"):
        backup(tmp_path / "none", tmp_path / "c", CONFIG)
    with pytest.raises(StoreUnavailable, match="no backup"):
        restore(tmp_path / "none", tmp_path / "d", CONFIG)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "s"]


def test_the_commands_back_up_and_restore(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("The workshop opens at nine on all days.")
    artifact_id = json.loads(cli("compile", tmp_path / "p.md", "--json")[1])["artifact"]
    code, out, _ = cli("store", "backup", tmp_path / "b", "--json")
    with Store(tmp_path / "store", "read") as store:
        there = sum(1 for family in SEALED for _ in store.records.scan(family))
    assert (code, json.loads(out)["records"]) == (0, there)
    assert cli("store", "backup", tmp_path / "b")[0] == 2
    assert cli("store", "delete", artifact_id)[0] == 0
    assert cli("store", "restore", tmp_path / "b")[0] == 2
    assert cli("store", "restore", tmp_path / "b", "--replace")[0] == 0
    assert cli("run", artifact_id, "Hi", "--max-tokens", 3)[0] == 0
