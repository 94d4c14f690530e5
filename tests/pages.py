"""Debian's Chromium, cut off from everything but the server under test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@dataclass
class Watched:
    """What a page did that it should not: asked other hosts, threw, logged an error."""

    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the dev extra"
    )
    if CHROMIUM is None:
        pytest.skip("no chromium on the path; on Debian: apt-get install chromium")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watching(browser: Any, url: str, wait_ms: int, **options: Any) -> Iterator[tuple[Any, Watched]]:
    """A new page that reaches this server only, and what it tries besides."""
    page, seen = browser.new_page(**options), Watched()
    page.set_default_timeout(wait_ms)

    def only_here(route: Any) -> None:
        if route.request.url.startswith((url, "data:")):
            route.continue_()
        else:
            seen.elsewhere.append(route.request.url)
            route.abort()

    page.route("**/*", only_here)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and seen.errors.append(said.text))
    yield page, seen
    page.close()
    assert not seen.elsewhere, "the page asked other hosts for these"
