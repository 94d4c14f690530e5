"""Segments tile the source exactly, whatever the text; kinds, policies and roles are right."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcompiler.frontend import parse
from pcompiler.ir import Kind, Policy, Prompt

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip("\ufeff").strip()
)
BLOCKS = """\
# Heading|You must not.|- item|1. one|| a | b |||---|---||| 1 | 2 ||```python|```|    code|
{"a": [1, 2]}||  |> quote|a\tb  |é😀\u2028x|Customer: hi|<b>html</b>|[ref]: http://x|***|
Title|=====|---"""
LINES = st.lists(
    st.sampled_from([*re.split(r"\|\n?", BLOCKS), "| a | b |", "|---|---|"]), min_size=1
)
NEWLINE = st.sampled_from(["\n", "\r\n", "\r"])
FENCED = """Intro.

<!-- pcompiler:keep -->
Refunds need a lead.
<!-- pcompiler:end -->
Middle.
<!-- pcompiler:drop-first -->
Trivia.
<!-- pcompiler:end -->
"""


def assert_tiles(prompt: Prompt, source: str) -> None:
    assert "".join(s.source for s in prompt.segments) == source
    for s in prompt.segments:
        assert source[s.start : s.end] == s.source
        assert s.source


@given(TEXT)
def test_any_text_is_tiled_byte_for_byte(source: str) -> None:
    prompt = parse(source)
    assert_tiles(prompt, source)
    if "<!--" not in source:
        assert prompt.messages[0].content == source.lstrip("\ufeff")


@pytest.mark.parametrize(
    "source",
    [
        "x\n```python\n```\n[ref]: http://x\n# Heading",
        "```\nx",
        "```",
        "~~~\n~~~\n```\n[a]: b",
        "x\n\n````\n```\ny\n\n# z\n",
    ],
)
def test_fences_closed_or_not_are_tiled(source: str) -> None:
    """Reference definitions are no blocks of their own: they hid the fence's end once."""
    prompt = parse(source)
    assert_tiles(prompt, source)
    assert prompt.messages[0].content == source


def test_thousands_of_fences_that_never_close_are_read_in_time() -> None:
    source = "```a\nx\n" * 20_000
    assert_tiles(parse(source), source)


@given(LINES, NEWLINE)
def test_markdown_is_tiled_whatever_the_line_ends(lines: list[str], newline: str) -> None:
    source = newline.join(["x", *lines])
    prompt = parse(source)
    assert_tiles(prompt, source)
    assert prompt.messages[0].content == source


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXT), min_size=1),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_chat_json_is_tiled_and_its_contents_are_decoded(
    turns: list[tuple[str, str]], ascii_only: bool, indent: int | None
) -> None:
    messages = [{"role": r, "content": c, "name": "content"} for r, c in turns]
    source = json.dumps(messages, ensure_ascii=ascii_only, indent=indent)
    prompt = parse(source)
    assert_tiles(prompt, source)
    assert [(m.role, m.content) for m in prompt.messages] == turns


def test_chat_keys_may_come_in_any_order_and_nest() -> None:
    source = (
        '[{"content":"a \\"b\\"","x":{"content":"no"},"role":"user"}, {"role":"tool","content":""}]'
    )
    prompt = parse(source)
    assert_tiles(prompt, source)
    assert [m.content for m in prompt.messages] == ['a "b"', ""]
    assert prompt.roles == ("user", "tool")


def kinds(source: str) -> list[Kind]:
    return [s.kind for s in parse(source).segments]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("You must answer in German.", Kind.INSTRUCTION),
        ("The mill was built in 1764 by Anna Weber.", Kind.DOCUMENT),
        ("```python\nprint(1)\n```", Kind.CODE),
        ("```json\n{}\n```", Kind.JSON),
        ('{"a": [1, 2, 3]}', Kind.JSON),
        ("| a | b |\n|---|---|\n| 1 | 2 |", Kind.TABLE),
        ("- one\n- two", Kind.LIST),
        ("1. one\n2. two", Kind.LIST),
        ("Customer: hello\nAgent: hi", Kind.EXAMPLE),
    ],
)
def test_a_block_has_its_kind(text: str, kind: Kind) -> None:
    assert kinds(text) == [kind]


def test_a_heading_decides_the_kind_of_its_section() -> None:
    assert kinds("# Examples\n\nA line of text.\n\n# Rules\n\nYou must.") == [
        *(Kind.EXAMPLE, Kind.EXAMPLE),
        *(Kind.DOCUMENT, Kind.INSTRUCTION),
    ]


def test_fences_give_policies_and_are_not_seen_by_the_model() -> None:
    prompt = parse(FENCED)
    assert_tiles(prompt, FENCED)
    policies = {s.text.strip(): s.policy for s in prompt.segments if s.kind is not Kind.MARKUP}
    assert policies == {
        "Intro.": Policy.COMPRESS,
        "Refunds need a lead.": Policy.KEEP,
        "Middle.": Policy.COMPRESS,
        "Trivia.": Policy.DROP_FIRST,
    }
    assert "pcompiler" not in prompt.messages[0].content


def test_fences_work_inside_chat_messages() -> None:
    source = json.dumps([{"role": "system", "content": FENCED}])
    prompt = parse(source)
    assert_tiles(prompt, source)
    assert Policy.KEEP in {s.policy for s in prompt.segments if s.kind is not Kind.MARKUP}
    assert prompt.messages == parse(FENCED).messages


def test_turns_of_a_conversation_are_examples() -> None:
    source = json.dumps([{"role": "user", "content": "You must help"}])
    assert [s.kind for s in parse(source).segments if s.text] == [Kind.EXAMPLE]


def test_a_byte_order_mark_is_kept_in_the_source_and_hidden_from_the_model() -> None:
    prompt = parse("\ufeffHello there")
    assert_tiles(prompt, "\ufeffHello there")
    assert prompt.messages[0].content == "Hello there"


def test_a_json_document_that_is_not_chat_is_a_prompt_like_any_other() -> None:
    assert parse('[{"price": 3}]').messages[0].content == '[{"price": 3}]'
