"""Shortening: the budget is met, what is protected stays, what is left is in order and valid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pcompiler.errors import BudgetError, ConfigError
from pcompiler.frontend import parse
from pcompiler.ir import Prompt
from pcompiler.passes import deduplicate, protect
from pcompiler.passes.shorten import Settings, Shortened, Shortener

EXAMPLE = (Path(__file__).parents[1] / "examples" / "support_desk.md").read_text()
BYTES = byte_tokenizer().backend_tokenizer
TEXT = (
    "the desk opens at nine. It closes, and Mrs Abt (room B12) has 30 EUR or 4.5 km; "
    "never promise {{name}} a refund! See https://ex.ample/a?b=1 or a@b.example now. "
    '"Quoted words" stay `x = 1` and **bold ones** go. * - # \n \n\n'
)
WORDS = st.lists(st.sampled_from(TEXT.split(" ")), min_size=1, max_size=120).map(" ".join)


def shortener(source: str, **kept: Any) -> Shortener:
    return Shortener(parse(source), BYTES, Settings(**kept))


def text(prompt: Prompt) -> str:
    return "".join(message.content for message in prompt.messages)


def to_rate(source: str, rate: float, **kept: Any) -> Shortened:
    ranked = shortener(source, **kept)
    return ranked.to(round(rate * ranked.tokens))


def is_in_order(short: str, full: str) -> bool:
    """Whether all but blanks of one is in the other, in the same order."""
    rest: Iterator[str] = iter(full)
    return all(character in rest for character in short if not character.isspace())


@settings(deadline=None, max_examples=60)
@given(WORDS, st.sampled_from([0.1, 0.2, 0.33, 0.5, 0.8]))
def test_the_budget_holds_and_what_is_left_is_in_order(source: str, rate: float) -> None:
    try:
        done = to_rate("x " + source, rate, protect="none")
    except BudgetError:
        return
    assert done.tokens <= round(rate * shortener("x " + source).tokens)
    assert is_in_order(text(done.prompt), "x " + source)
    assert done.prompt.source == "x " + source


@settings(deadline=None, max_examples=60)
@given(WORDS, st.floats(0.2, 0.95))
def test_protected_spans_stay_byte_for_byte_or_the_budget_is_refused(
    source: str, rate: float
) -> None:
    prompt = parse("x " + source)
    found = protect.find(prompt, protect.CLASSES)
    try:
        shown = text(to_rate("x " + source, rate, protect="all").prompt)
    except BudgetError:
        return
    at = 0
    for segment, spans in zip(prompt.segments, found.spans(protect.CLASSES), strict=True):
        for start, end in spans:
            span = segment.text[start:end]
            assert span in shown[at:], (span, shown)
            at = shown.index(span, at) + len(span)


@pytest.mark.parametrize("length", [100, 300, 1_000, 3_000, 8_000])
@pytest.mark.parametrize("rate", [0.8, 0.5, 0.33, 0.2])
def test_the_rate_is_met_within_two_percent_at_every_length(length: int, rate: float) -> None:
    ranked = shortener((EXAMPLE.replace("pcompiler:", "") * 3)[:length], protect="none")
    done = ranked.to(round(rate * ranked.tokens))
    assert abs(done.tokens / (rate * ranked.tokens) - 1) < 0.02


def test_a_larger_budget_keeps_all_sentences_that_a_smaller_one_does() -> None:
    ranked = shortener(EXAMPLE, protect="none")
    shown = [text(ranked.to(round(rate * ranked.tokens)).prompt) for rate in (0.3, 0.5, 0.7)]
    whole = [set(re.split(r"(?<=[.])\s", s)) & set(re.split(r"(?<=[.])\s", EXAMPLE)) for s in shown]
    assert whole[0] < whole[1] < whole[2]


def test_what_is_left_is_valid_markdown() -> None:
    parser = MarkdownIt("commonmark").enable("table")

    def kinds(source: str) -> list[str]:
        return [token.type for token in parser.parse(source) if token.nesting == 1]

    full = kinds(EXAMPLE)
    for rate in (0.9, 0.7, 0.5, 0.3):
        shown = text(to_rate(EXAMPLE, rate).prompt)
        left = kinds(shown)
        assert left.count("heading_open") <= full.count("heading_open")
        assert len(re.findall(r"^#+ .", shown, re.M)) == left.count("heading_open")
        rows = [line for line in shown.splitlines() if line.startswith("|")]
        assert not rows or left.count("table_open") == 1, "rows have their table's head"
        assert all(row.count("|") == 6 for row in rows), "rows are whole"
        assert "**" not in shown or shown.count("**") % 2 == 0


def test_code_and_json_are_whole_or_gone() -> None:
    code = "```python\nfor x in range(3):\n    print(x)\n```\n"
    data = json.dumps({"a": 1, "b": [2, 3]}, indent=1)
    prose = "This is a sentence about nothing in particular. " * 6
    source = f"{prose}\n\n{code}\n{prose}\n\n```json\n{data}\n```\n\n{prose}\n"
    for rate in (0.9, 0.6, 0.3, 0.15):
        shown = text(to_rate(source, rate).prompt)
        assert code in shown or "print" not in shown
        assert data in shown or '"b"' not in shown
    assert code in text(to_rate(source, 0.6, protect="code").prompt)


def test_fenced_parts_stay_and_drop_first_goes_first() -> None:
    source = (
        "<!-- pcompiler:drop-first -->\nA Zebra met Queen Anne in 1702 at Windsor.\n"
        "<!-- pcompiler:end -->\nit is so and so it is. and then it was.\n\n"
        "<!-- pcompiler:keep -->\nof the to and a.\n<!-- pcompiler:end -->\n"
    )
    shown = text(to_rate(source, 0.6, protect="none").prompt)
    assert "Zebra" not in shown
    assert "of the to and a.\n" in shown


def test_forced_words_stay_as_whole_words() -> None:
    source = "We sell bells. Nothing else matters here. The bell is loud. Other things are not.\n"
    shown = text(to_rate(source, 0.4, force="bell,else", protect="none").prompt)
    assert re.search(r"\bbell\b", shown)
    assert re.search(r"\belse\b", shown)


def test_a_block_that_is_whole_or_gone_is_refused_rather_than_gone() -> None:
    """It was dropped without a word, and a rate of 0.99 left an empty prompt."""
    lines = "\n".join(f"    total_{i} = price_{i} * count" for i in range(30))
    whole = shortener(f"```\ndef sums(count):\n{lines}\n```\n")
    with pytest.raises(BudgetError, match="block of code"):
        whole.to(round(0.99 * whole.tokens))
    assert whole.to(whole.tokens).tokens == whole.tokens


def test_sections_have_rates_of_their_own_and_the_whole_meets_its_own() -> None:
    body = "The quick brown fox jumps over lazy dogs. Sphinx of black quartz judge my vow. " * 4
    source = (
        f"# Rules\n\n{body}\n\n# Notes\n\n{body}\n\n## Deep notes\n\n{body}\n\n# Rest\n\n{body}\n"
    )
    ranked = shortener(source, section="Rules,deep notes=0", protect="none")
    done = ranked.to(round(0.5 * ranked.tokens))
    shown = text(done.prompt)
    assert f"# Rules\n\n{body}" in shown
    assert "Deep notes" not in shown
    assert done.tokens / ranked.tokens == pytest.approx(0.5, rel=0.02)
    with pytest.raises(ConfigError, match=r"nowhere is not in the prompt; it has: deep notes"):
        shortener(source, section="nowhere=0.2")
    for wrong in ("Rules=2", "=0.5", "Rules=x"):
        with pytest.raises(ConfigError, match="NAME=RATE"):
            Settings(section=wrong)


def test_by_default_classes_are_let_go_from_the_last_and_named() -> None:
    numbers = " ".join(f"It is {n} km." for n in range(100, 130))
    done = to_rate(numbers, 0.3)
    assert "numbers" in done.let_go
    assert done.let_go == protect.CLASSES[-len(done.let_go) :]
    with pytest.raises(BudgetError, match=r"takes \d+ tokens, more than the \d+ asked for"):
        to_rate(numbers, 0.3, protect="numbers")
    with pytest.raises(ConfigError, match="protect: figures is not one of placeholders"):
        Settings(protect="figures")


def test_repetitions_go_first_but_no_further_than_the_rate_asks() -> None:
    line = "The quick brown fox jumps over the lazy dog near the river bank today.\n\n"
    other = "Sphinx of black quartz, judge my vow before the sun goes down.\n\n"
    prompt = parse(line * 30 + other)
    ranked = Shortener(prompt, BYTES, Settings(), deduplicate.near(prompt))
    for rate in (0.9, 0.5, 0.2):
        done = ranked.to(round(rate * ranked.tokens))
        assert done.tokens == pytest.approx(rate * ranked.tokens, rel=0.02)
        assert other in text(done.prompt)
        assert text(done.prompt).startswith(line)


def test_words_are_not_glued_together() -> None:
    shown = text(to_rate("alpha(beta)gamma delta. " * 9 + "B12(30)km", 0.5, protect="all").prompt)
    assert not re.search(r"[a-z]{9,}", shown)


@pytest.mark.parametrize(
    "source",
    [
        "a" * 3_000,
        "文字列は長い。" * 200,
        "مرحبا بالعالم. كيف الحال؟ " * 60,
        "👩\u200d👩\u200d👧🇩🇪👍🏽 " * 60 + "हिन्दी में लिखा",
        "x\x00y z\x00 " * 100,
        "` `` ``` ~~~ ** __ [ ]( " * 40,
        "\n" * 50 + "word " * 100,
    ],
    ids=["no spaces", "cjk", "rtl", "emoji", "nul", "unbalanced", "blank lines"],
)
@pytest.mark.parametrize("rate", [0.9, 0.5, 0.2])
def test_strange_texts_meet_the_rate(source: str, rate: float) -> None:
    done = to_rate(source, rate, protect="none")
    ranked = shortener(source)
    largest = 50  # bytes of the largest piece: a cut word, an emoji of a family
    assert round(rate * ranked.tokens) - largest <= done.tokens <= round(rate * ranked.tokens)
    assert is_in_order(text(done.prompt), source)
    assert "\ufffd" not in text(done.prompt)
    family = "👩\u200d👩\u200d👧"
    assert text(done.prompt).replace(family, "").count("\u200d") == 0, "emoji are not torn"


def test_one_line_of_a_megabyte_is_shortened_in_time() -> None:
    import time

    source = "The gear of bicycle 12 costs 30 EUR and lasts long, says Abt. " * 16_000  # 1 MB
    start = time.process_time()
    done = to_rate(source, 0.5, protect="none")
    assert done.tokens / shortener(source).tokens == pytest.approx(0.5, rel=0.02)
    assert time.process_time() - start < 60
