"""Processes are really killed, files really damaged, disks really full."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pcompiler.store.db import Store

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def _children_hear_interrupts() -> Iterator[None]:
    """Shells start background jobs with SIGINT ignored, and every child inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_children_hear_interrupts")
def test_an_interrupted_compile_stores_nothing_and_shows_no_traceback(
    model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.md").write_text("The workshop opens at nine and closes at five on all days.")
    queries = "".join(json.dumps({"query": f"When, {i}?"}) + "\n" for i in range(2000))
    (tmp_path / "q.jsonl").write_text(queries)
    command = [sys.executable, "-m", "pcompiler", "compile", str(tmp_path / "p.md"), "--queries"]
    command += [str(tmp_path / "q.jsonl"), "--model", str(model_folder), "--store"]
    for delay_s in (0.5, 2.0, 7.0):
        store = tmp_path / f"s{delay_s}"
        child = subprocess.Popen([*command, str(store)], stderr=subprocess.PIPE, text=True)
        time.sleep(delay_s)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
        assert (child.returncode, "Traceback" in err) == (130, False), err
        assert "interrupted" in err
        with Store(store) as opened:
            assert list(opened.headers()) == []


@pytest.mark.usefixtures("_children_hear_interrupts")
def test_an_interrupt_is_not_lost_in_an_import_that_drops_it(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("The workshop opens at nine and closes at five on all days.")
    (tmp_path / "torch.py").write_text(
        "import sys, time\n"
        "try:\n    print('importing', file=sys.stderr, flush=True); time.sleep(20)\n"
        "except BaseException:\n    pass\n"
    )
    command = [sys.executable, "-m", "pcompiler", "compile", str(tmp_path / "p.md"), "--json"]
    root = str(Path(__file__).parent.parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), root))}
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [*command, "--store", str(tmp_path / "s")], stdout=pipe, stderr=pipe, text=True, env=env
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "importing\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (130, "pcompiler: interrupted; the store is as it was.\n")
    assert json.loads(out)["exit_code"] == 130


def test_damaged_store_files_are_noticed_or_do_not_matter(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("The workshop opens at nine and closes at five on all days.")
    artifact = json.loads(cli("compile", tmp_path / "p.md", "--json")[1])["artifact"]
    with Store(tmp_path / "store"):  # reopening moves the log into SST files
        pass
    good = cli("run", artifact, "Hi", "--max-tokens", 4)[1]
    whole = tmp_path / "whole"
    (tmp_path / "store").rename(whole)
    noticed = 0
    for path in sorted(whole.glob("*.sst")) + sorted(whole.glob("MANIFEST*")):
        for share in (0.1, 0.5, 0.9):
            shutil.rmtree(tmp_path / "store", ignore_errors=True)
            shutil.copytree(whole, tmp_path / "store")
            data = bytearray(path.read_bytes())
            data[int(len(data) * share)] ^= 1
            (tmp_path / "store" / path.name).write_bytes(data)
            for words in (("store", "list", "--json"), ("run", artifact, "Hi", "--max-tokens", 4)):
                code, out, err = cli(*words)
                assert code in (0, 3), err
                assert code == 0 or len(err.strip().splitlines()) == 1
                noticed += code == 3
                if code == 0:
                    assert artifact in out if words[0] == "store" else out == good
    assert noticed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MB; only where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_up(disk: Path) -> Path:
    """The file that takes the last free page."""
    fill = disk / "fill"
    with fill.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert shutil.disk_usage(disk).free < 4096
    return fill


def test_a_full_disk_is_said_and_what_was_stored_is_safe(
    cli: Cli, small_disk: Path, tmp_path: Path
) -> None:
    store = ("--store", small_disk / "s")
    text = "The workshop opens at nine and closes at five on all days."
    (tmp_path / "p.md").write_text(text)
    (tmp_path / "big.md").write_text(f"{text}\n" * 20)
    artifact = json.loads(cli("compile", tmp_path / "p.md", "--json", *store)[1])["artifact"]
    fill = fill_up(small_disk)
    code, _, err = cli("compile", tmp_path / "big.md", *store)
    assert (code, "full" in err, len(err.strip().splitlines())) == (2, True, 1), err
    fill.unlink()
    assert cli("verify", artifact, *store)[0] == 0
    assert cli("compile", tmp_path / "big.md", *store)[0] == 0


def test_a_full_disk_under_out_leaves_no_part_and_the_artifact_in_the_store(
    cli: Cli, small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.md").write_text("The workshop opens at nine and closes at five on all days.")
    fill, out = fill_up(small_disk), small_disk / "a.pca"
    code, _, err = cli("compile", tmp_path / "p.md", "--out", out)
    assert (code, str(out) in err, len(err.strip().splitlines())) == (2, True, 1), err
    assert list(small_disk.iterdir()) == [fill]
    (stored,) = json.loads(cli("store", "list", "--json")[1])["artifacts"]
    fill.unlink()
    again = json.loads(cli("compile", tmp_path / "p.md", "--out", out, "--json")[1])
    assert (again["cached"], again["artifact"]) == (True, stored["artifact"])
    assert cli("verify", out, "--bytes-only")[0] == 0


def test_a_read_only_disk_is_said_and_a_copy_of_its_store_works(
    cli: Cli, small_disk: Path, tmp_path: Path
) -> None:
    store = ("--store", small_disk / "s")
    (tmp_path / "p.md").write_text("The workshop opens at nine and closes at five on all days.")
    artifact = json.loads(cli("compile", tmp_path / "p.md", "--json", *store)[1])["artifact"]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, _, err = cli("compile", tmp_path / "p.md", "--target", "text", *store)
    assert (code, "not writable" in err) == (2, True), err
    code, _, err = cli("run", artifact, "Hi", *store)  # rocksdict writes its own file on opening
    assert (code, "copy it" in err) == (2, True), err
    shutil.copytree(small_disk / "s", tmp_path / "copy")
    assert cli("run", artifact, "Hi", "--max-tokens", 3, "--store", tmp_path / "copy")[0] == 0


def test_a_second_writer_is_told_while_readers_go_on(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("The workshop opens at nine and closes at five on all days.")
    artifact = json.loads(cli("compile", tmp_path / "p.md", "--json")[1])["artifact"]
    with Store(tmp_path / "store"):
        code, _, err = cli("compile", tmp_path / "p.md")
        assert (code, "another process" in err) == (2, True)
        assert cli("run", artifact, "Hi", "--max-tokens", 3)[0] == 0
