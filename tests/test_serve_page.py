"""The page at /, in a browser that reaches nothing but a real ``pcompiler serve``.

Skipped without playwright (``pip install -e '.[dev]'``) or a Chromium on the path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pages import chromium, watching
from test_serve_command import ROOT, running

pytestmark = pytest.mark.browser
WAIT_MS = 180_000
PROMPT = """# Desk

You are the desk of a bicycle shop. Always answer in one short sentence.

<!-- pcompiler:keep -->
Never promise a price that is not in the table.
<!-- pcompiler:end -->

| service | price |
|---|---|
| flat tyre | 18 EUR |

- We open at nine and close at six.
- On Sundays we are closed.
- <img src=x onerror="document.title='taken'"> is not a bicycle.
"""
HANDBOOK = (ROOT / "examples" / "support_desk.md").read_text()
COUNTED = re.compile(r"\d+ of \d+ · ")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def url(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The command with the tiny model."""
    folder = tmp_path_factory.mktemp("page")
    settings = folder / "settings.toml"
    settings.write_text(
        "[probes]\nself_study = 3\nfitting = 12\nquery_tokens = 6\nanswer_tokens = 4\n"
    )
    options = ("--model", str(model_folder), "--device", "cpu", "--config", str(settings))
    with running(folder / "store", *options) as (_, address):
        yield address


@contextmanager
def opened(browser: Any, url: str, refused: int = 0, **options: Any) -> Iterator[Any]:
    """The page; what it logs as errors, throws, or asks other hosts for fails the test.

    Args:
        refused: a status that is asked for; the console has an error for each such answer.
    """
    options = {"viewport": {"width": 1280, "height": 900}, **options}
    with watching(browser, url, WAIT_MS, **options) as (page, seen):
        page.goto(url)
        yield page
    expected = f"status of {refused} "
    assert not [error for error in seen.errors if not refused or expected not in error]


def compiled(page: Any, target: str, **settings: str) -> None:
    """Compile to a target, and wait until its artifact is shown."""
    page.get_by_role("radio", name=target).check()
    for label, value in settings.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Compile").click()
    page.get_by_role("heading", name=re.compile(f"Artifact [0-9a-f]{{8}}: {target}")).wait_for()


def answered(page: Any, question: str) -> tuple[str, str]:
    """Ask; what both answer, once both have their times."""
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#send:not(:disabled)").wait_for()
    for side in ("short", "full"):
        assert re.match(r"first token after .* before", page.locator(f"#{side}-time").inner_text())
    return page.locator("#full-answer").inner_text(), page.locator("#short-answer").inner_text()


def test_a_prompt_is_taken_apart_compiled_and_asked_beside_the_original(
    browser: Any, url: str
) -> None:
    with opened(browser, url) as page:
        page.evaluate(
            """() => {
              const shown = document.querySelector("#elapsed");
              window.seen = [];
              const see = () => window.seen.push(shown.textContent);
              new MutationObserver(see).observe(shown, {childList: true});
            }"""
        )
        page.locator("#source").fill(PROMPT)
        page.locator(".segment.table").wait_for()
        shown = page.locator(".segment pre").all_text_contents()
        assert "".join(shown) == PROMPT
        kinds = page.locator(".segment .label").all_text_contents()
        assert {"instruction", "table", "list", "markup"} <= set(kinds)
        kept = page.locator(".segment", has_text="Never promise").first
        assert "keep" in kept.locator("p").inner_text()
        compiled(page, "kv")
        assert any(COUNTED.match(state) for state in page.evaluate("window.seen"))
        assert "Nothing: every key" in page.locator("#dropped").inner_text()
        full, short = answered(page, "When do you open?")
        assert full
        assert full == short  # an exact cache answers as the prompt does
        compiled(page, "text", Rate="0.6")
        gone = "".join(page.locator("#dropped del").all_text_contents())
        left = "".join(page.locator("#dropped span").all_text_contents())
        assert gone.strip()
        assert "Never promise a price that is not in the table." in left
        assert page.locator("#frontier circle").count() == 2
        assert page.locator("#frontier text", has_text="no prompt:").count() == 1
        assert page.locator("#frontier text", has_text="full prompt: 0").count() == 1
        exact = page.locator("#beside option", has_text="kv exact").get_attribute("value")
        page.get_by_label("Beside the full prompt").select_option(exact)
        assert page.locator("#short-title").inner_text() == "Artifact: kv exact"
        assert answered(page, "When do you open?") == (full, short)
        assert page.title() == "pcompiler"  # the prompt's markup was text all along


@pytest.mark.parametrize("target", ["weights", "hybrid", "auto"])
def test_every_target_compiles(browser: Any, url: str, target: str) -> None:
    with opened(browser, url) as page:
        page.locator("#source").fill(PROMPT)
        page.get_by_role("radio", name=target).check()
        if target == "auto":
            page.get_by_label("Least agreement").fill("0.5")
        page.get_by_role("button", name="Compile").click()
        page.get_by_role("heading", name=re.compile(r"Artifact [0-9a-f]{8}")).wait_for()


def test_all_of_it_works_from_the_keyboard(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        focused = "() => document.activeElement.id || document.activeElement.value"

        def tab_to(name: str) -> None:
            for _ in range(20):
                page.keyboard.press("Tab")
                if page.evaluate(focused) == name:
                    return
            raise AssertionError(f"{name} is not reached by tabs")

        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        tab_to("source")
        page.keyboard.insert_text("You are the desk. We open at nine, and we close at six.")
        page.locator(".segment").wait_for()
        tab_to("kv")
        tab_to("compile")
        page.keyboard.press("Enter")
        page.locator("#result-title:focus").wait_for()
        tab_to("question")
        page.keyboard.type("When?")
        page.keyboard.press("Enter")
        page.locator("#full-time", has_text="first token after").wait_for()
        page.locator("#short-time", has_text="first token after").wait_for()


def test_what_the_server_refuses_is_shown_in_its_words(browser: Any, url: str) -> None:
    with opened(browser, url, refused=400) as page:
        page.locator("#source").fill("<!-- pcompiler:keep -->\nnever closed\n")
        page.locator("#source-error", has_text="is never closed").wait_for()
        page.get_by_role("button", name="Compile").click()
        page.locator("#compile-error", has_text="is never closed").wait_for()
        page.locator("#source").fill("A prompt.")
        page.locator("#source-error:empty").wait_for(state="attached")
        page.get_by_role("radio", name="auto").check()
        page.get_by_label("Least agreement").fill("")
        page.get_by_role("button", name="Compile").click()
        page.locator("#compile-error", has_text="needs a gate").wait_for()


def test_a_key_is_asked_for_only_where_the_server_has_keys(
    browser: Any, model_folder: Path, tmp_path: Path, url: str
) -> None:
    with opened(browser, url) as page:
        page.get_by_text("Model: ").wait_for()
        assert page.get_by_label("API key").is_hidden()
    keys = tmp_path / "keys"
    keys.write_text("alice:0123456789abcdef\n")
    keys.chmod(0o600)
    options = ("--model", str(model_folder), "--device", "cpu", "--api-key-file", str(keys))
    with (
        running(tmp_path / "store", *options) as (_, locked),
        opened(browser, locked, refused=401) as page,
    ):
        page.get_by_text("Authorization: Bearer KEY").wait_for()
        for key in ("a wrong one, this", "0123456789abcdef"):
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Use this key").click()
        page.get_by_text("Model: ").wait_for()
        page.get_by_label("API key").wait_for(state="hidden")
        page.locator("#source").fill("A prompt.")
        page.locator(".segment").wait_for()
        stores = "() => [localStorage.length, sessionStorage.length, document.cookie.length]"
        assert page.evaluate(stores) == [0, 0, 0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_any_width_and_its_text_has_contrast(
    browser: Any, url: str, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 800}
    with opened(browser, url, viewport=size, color_scheme=scheme) as page:
        page.get_by_role("button", name="Use an example").click()
        page.locator(".segment").first.wait_for()
        compiled(page, "text")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        low = page.evaluate((ROOT / "tests" / "contrast.js").read_text())
        assert not low, low


@pytest.mark.model
@pytest.mark.slow
def test_the_picture_of_the_readme_is_of_a_real_answer(browser: Any, tmp_path: Path) -> None:
    """With PCOMPILER_PICTURE=FILE.png it is kept."""
    kept = Path(os.environ.get("PCOMPILER_PICTURE", tmp_path / "page.png"))
    with (
        running(tmp_path / "store") as (_, address),
        opened(browser, address, color_scheme="light") as page,
    ):
        page.locator("#source").fill(HANDBOOK)
        page.locator(".segment.table").wait_for()
        fold = page.get_by_text("Questions to measure")
        fold.click()
        questions = "When do you open on Saturday?\nWhat does a flat tyre cost?"
        page.get_by_label("One a line").fill(questions)
        fold.click()
        compiled(page, "kv")
        compiled(page, "kv", Factor="10")
        page.get_by_role("heading", name="kv 10×").first.wait_for()
        for rate in ("0.5", "0.8"):
            compiled(page, "text", Rate=rate)
            page.get_by_role("heading", name=f"text {100 * float(rate):.0f} %").first.wait_for()
        assert "–" not in page.locator("#figures").inner_text()
        exact = page.locator("#beside option", has_text="kv exact").get_attribute("value")
        page.get_by_label("Beside the full prompt").select_option(exact)
        for question in ("What is the Storch Cargo?", "What is the phone number?"):
            full, short = answered(page, question)
            assert full == short
        assert "+49 761 555 0142" in short
        page.locator("#source").evaluate("field => field.scrollTop = 0")
        page.screenshot(path=tmp_path / "whole.png", full_page=True)
    few_colours(tmp_path / "whole.png", kept)
    assert 20_000 < kept.stat().st_size < 200_000


def few_colours(path: Path, to: Path) -> None:
    """The same picture with a palette, which is a third of the bytes."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(to, optimize=True)
