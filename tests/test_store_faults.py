"""The store under writers that are killed, lost locks, few files and files cut short."""

from __future__ import annotations

import errno
import fcntl
import gc
import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact

from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, StoreUnavailable
from pcompiler.store.check import check
from pcompiler.store.db import Store
from pcompiler.store.engine import Access

WRITER = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from bare import PROBES, PROMPT, artifact
from pcompiler.store.db import Store
with Store(Path({store!r})) as store:
    for n in range({start}, 10**9):
        store.put(artifact(n), PROMPT, PROBES); print(n, flush=True)
"""


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_nothing_acknowledged(tmp_path: Path, rounds: int) -> None:
    rng, acknowledged = random.Random(0), []
    for round_ in range(rounds):
        code = WRITER.format(
            tests=str(Path(__file__).parent), store=str(tmp_path / "s"), start=round_ * 100_000
        )
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        acknowledged.append(int(child.stdout.readline()))
        time.sleep(rng.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
        child.wait()
        child.stdout.close()
    assert check(tmp_path / "s", StoreConfig()).damage == []
    with Store(tmp_path / "s") as store:
        for number in acknowledged:
            store.get(f"{number:024x}").check()


def test_a_second_writer_is_told_who_the_first_is_though_the_lock_file_is_gone(
    tmp_path: Path,
) -> None:
    code = WRITER.format(tests=str(Path(__file__).parent), store=str(tmp_path / "s"), start=0)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        for name in (None, "LOCK", "HOLDER"):
            if name is not None:
                (tmp_path / "s" / name).unlink()
            said = f"process {child.pid} " if name != "HOLDER" else "not left its name"
            with pytest.raises(StoreUnavailable, match=said):
                Store(tmp_path / "s")
    finally:
        child.kill()
        child.communicate()
    Store(tmp_path / "s").close()  # a lock goes with its holder, however that ends
    assert check(tmp_path / "s", StoreConfig()).damage == []


FEW_FILES = """
import resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from bare import PROBES, PROMPT, artifact
from pcompiler.errors import StoreUnavailable
from pcompiler.store.db import Store
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
try:
    with Store(Path({store!r})) as store:
        for n in range(10**6, 10**6 + 5):
            store.put(artifact(n), PROMPT, PROBES); print(n, flush=True)
except StoreUnavailable as e:
    print(e, file=sys.stderr); sys.exit(2)
"""


def test_a_process_without_files_left_says_so_and_loses_nothing(tmp_path: Path) -> None:
    for number in range(3):
        with Store(tmp_path / "s") as store:
            store.put(artifact(number), PROMPT, PROBES)
    code = FEW_FILES.format(tests=str(Path(__file__).parent), store=str(tmp_path / "s"))
    codes, acknowledged = [], [0, 1, 2]
    for limit in range(12, 90, 6):
        command = [sys.executable, "-c", code, str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or "open files" in done.stderr
        codes.append(done.returncode)
        acknowledged += map(int, done.stdout.split())
    assert {codes[0], codes[-1]} == {2, 0}
    assert check(tmp_path / "s", StoreConfig()).damage == []
    with Store(tmp_path / "s") as store:
        for number in acknowledged:
            store.get(f"{number:024x}").check()


def read_all(folder: Path, access: Access) -> None:
    with Store(folder, access) as store:
        for header in store.headers():
            store.get(header.id).check()
            store.source(header.prompt_hash)
            store.probes(header.probes_hash)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_table_that_was_cut_short_is_set_aside(tmp_path: Path, share: float) -> None:
    for number in range(3):
        with Store(tmp_path / "s") as store:
            store.put(artifact(number), PROMPT, PROBES)
    table = max((tmp_path / "s").glob("*.sst"), key=lambda path: path.stat().st_mtime)
    table.write_bytes(table.read_bytes()[: int(table.stat().st_size * share)])
    for access in ("read", "write"):
        with pytest.raises(DamageError):
            read_all(tmp_path / "s", access)  # type: ignore[arg-type]
    report = check(tmp_path / "s", StoreConfig())
    assert (bool(report.damage), report.mended) == (True, True)
    with Store(tmp_path / "s") as store:
        assert len(list(store.headers())) >= 2
        store.put(artifact(9), PROMPT, PROBES)
    assert check(tmp_path / "s", StoreConfig()).damage == []


def put_on(store: Store, acknowledged: list[int]) -> None:
    for number in itertools.count():
        store.put(artifact(number), PROMPT, PROBES)
        acknowledged.append(number)


def test_an_open_store_lives_through_a_full_disk(small_disk: Path) -> None:
    """Nothing acknowledged is lost, all of it can be read meanwhile, and writing goes on after."""
    folder, full, acknowledged = small_disk / "s", r"disk.*full", list[int]()
    with Store(folder) as store:
        with pytest.raises(StoreUnavailable, match=full):
            put_on(store, acknowledged)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=full):
                store.put(artifact(len(acknowledged)), PROMPT, PROBES)
            assert [int(h.id, 16) for h in store.headers()] == acknowledged
            store.get(f"{acknowledged[-1]:024x}").check()
        mount = ["mount", "-o", "remount,size=64m", str(small_disk)]
        subprocess.run(mount, check=True)
        gc.collect()  # the errors above still hold on to RocksDB
        for number in range(len(acknowledged), len(acknowledged) + 50):
            store.put(artifact(number), PROMPT, PROBES)
    assert check(folder, StoreConfig()).damage == []
    with Store(folder) as store:
        assert [int(h.id, 16) for h in store.headers()] == list(range(len(acknowledged) + 50))


def test_a_disk_without_locks_on_folders_has_those_of_rocksdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with Store(tmp_path / "s") as store:
        store.put(artifact(1), PROMPT, PROBES)
        with pytest.raises(StoreUnavailable, match="another process"):
            Store(tmp_path / "s")
