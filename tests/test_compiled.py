"""Kernels that the machine's own compiler builds: once, kept, and missed without harm."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pcompiler.kernels import compiled
from pcompiler.kernels.op import Unavailable

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, compiled.COMPILERS)), reason="no C++ compiler here"
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PCOMPILER_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


@needs_compiler
def test_a_source_is_built_once_and_then_found(tmp_path: Path) -> None:
    first = compiled._built("attention")
    stamp = first.stat().st_mtime_ns
    assert compiled._built("attention") == first
    assert first.stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / "kernels").iterdir()] == [first.name]


@needs_compiler
def test_two_processes_that_build_at_once_both_get_it(tmp_path: Path) -> None:
    code = "from pcompiler.kernels.compiled import library; library('attention').attend"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(list((tmp_path / "kernels").iterdir())) == 1


def test_without_a_compiler_it_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with caplog.at_level(logging.WARNING), pytest.raises(Unavailable, match="no C\\+\\+ compiler"):
        compiled.library.__wrapped__("attention")
    assert "plain torch runs instead" in caplog.text


def test_a_compiler_that_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(Unavailable, match="/nowhere/c\\+\\+ does not run"):
        compiled._built("attention")
