"""TensorBoard shows a fresh profile, named ranges included, in a browser that has no network.

Skipped without the packages (``pip install -e '.[profile,browser]'``) or a Chromium on the path.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from conftest import tiny
from pages import chromium, watching

from pcompiler.bench.profiles.record import Profile, record
from pcompiler.bench.profiles.workload import Workload
from pcompiler.config import Config, ProbeConfig

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PROMPT = "# Desk\n\nWe open at 8:30. Delivery costs 39 EUR. Returns take 14 days.\n"
WAIT_MS = 90_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A fresh profile of a tiny model."""
    probes = ProbeConfig(fitting=12, query_tokens=6, answer_tokens=2)
    work = Workload(PROMPT, ("When?", "How much?"), Config(probes=probes), 2, 2, 3)
    return record(tiny(), work, tmp_path_factory.mktemp("profiles"), quick=True)


@pytest.fixture(scope="module")
def address(made: Profile) -> Iterator[str]:
    """Our TensorBoard over it, as a process of its own; where its plugin answers."""
    for name in ("tensorboard", "torch_tb_profiler"):
        pytest.importorskip(name, reason=f"{name} is not installed: the profile extra")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pcompiler.bench.profiles", "--logdir", made.folder.parent]
    server = subprocess.Popen([*map(str, command), "--port", str(port)])
    try:
        base = f"http://localhost:{port}/data/plugin/pytorch_profiler"
        until = time.monotonic() + WAIT_MS / 1000
        while f'"{made.folder.name}"' not in _text(f"{base}/runs"):
            assert server.poll() is None, "TensorBoard ended"
            assert time.monotonic() < until, "TensorBoard does not list the profile"
            time.sleep(0.5)
        yield f"http://localhost:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()


def _text(url: str) -> str:
    try:
        with urlopen(url, timeout=10) as answer:
            found: str = answer.read().decode()
            return found
    except (URLError, ConnectionError):
        return ""


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """The plugin's page in a browser that reaches nothing but this server."""
    size = {"width": 1400, "height": 1000}
    with (
        chromium() as browser,
        watching(browser, address, WAIT_MS, viewport=size) as (opened, seen),
    ):
        opened.goto(f"{address}/data/plugin/pytorch_profiler/index.html")
        opened.get_by_text("Execution Summary").wait_for()
        yield opened
    assert not seen.errors


def _show(page: Any, view: str, worker: str) -> None:
    """Choose a view at the page's side, and of which stage."""
    for selector, name in ((1, view), (2, worker)):
        page.locator(".MuiSelect-select").nth(selector).click()
        page.locator("li").get_by_text(name, exact=True).click()
        page.locator(".MuiMenu-paper").wait_for(state="hidden")


def test_the_overview_has_its_charts(page: Any, tmp_path: Path) -> None:
    _show(page, "Overview", "2-compile-hybrid")
    page.locator("svg path[fill='#dc3912']").wait_for()
    labels = page.locator("svg text").all_text_contents()
    assert {"CPU Exec", "Other"} <= set(labels)
    page.screenshot(path=tmp_path / "overview.png")


def test_the_module_page_shows_our_named_ranges(page: Any, tmp_path: Path) -> None:
    _show(page, "Module", "2-compile-hybrid")
    for name in ("compile hybrid", "build hybrid", "student, layers 0"):
        row = page.locator("tr", has=page.get_by_text(name, exact=True)).first
        row.wait_for()
        calls, _, total, own = (int(c) for c in row.locator("td").all_inner_texts()[1:5])
        assert calls >= 1
        assert 0 <= own < total
        row.locator(".ant-table-row-expand-icon").click()
    names = set(page.locator("td:first-child").all_inner_texts())
    assert {"match masses", "match values", "solve patch", "student, layers 2"} <= names
    page.screenshot(path=tmp_path / "module.png", full_page=True)
    assert (tmp_path / "module.png").stat().st_size > 20_000


def test_the_operator_page_shows_operators_and_their_share(page: Any) -> None:
    _show(page, "Operator", "1-compile-kv")
    page.locator("td").get_by_text("aten::mm", exact=True).wait_for()
    page.locator("svg path").first.wait_for()
    assert page.locator("svg text").get_by_text("aten::mm", exact=True).count() >= 1


def test_the_memory_page_draws_what_was_allocated(page: Any) -> None:
    _show(page, "Memory", "1-compile-kv")
    page.get_by_text("Peak Memory Usage").first.wait_for()
    points = page.locator("svg polyline").first.get_attribute("points").split()
    assert len(points) > 100
    assert len({point.split(",")[1] for point in points}) > 10


def test_the_trace_page_draws_the_trace_and_finds_a_range(page: Any, tmp_path: Path) -> None:
    _show(page, "Trace", "2-compile-hybrid")
    frame = page.frame_locator("iframe")
    frame.get_by_text(" events, ").wait_for()
    before = frame.locator("#view").screenshot(path=tmp_path / "trace.png")
    frame.locator("#find").fill("decoding step")
    page.wait_for_timeout(300)
    assert frame.locator("#view").screenshot() != before
    frame.locator("#canvas").click(position={"x": 300, "y": 50})
    assert "compile hybrid" in frame.locator("#details").inner_text()
