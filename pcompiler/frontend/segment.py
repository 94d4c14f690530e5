"""Markdown → blocks with a kind. markdown-it finds the blocks; the kinds are ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from pcompiler.ir import Kind

_NEWLINE = re.compile(r"\r\n?|\n")  # markdown-it's own idea of a line, which its maps count by
_ORDER = re.compile(
    r"\b(you|your|must|never|always|do not|don't|should|please|answer|respond|reply|avoid|ensure"
    r"|make sure|only|refuse|ask)\b",
    re.I,
)
_TURN = re.compile(
    r"^\W{0,4}(q|a|question|answer|user|assistant|customer|agent|input|output)\W{0,4}:", re.I | re.M
)
_EXAMPLE_HEADING = re.compile(r"\b(examples?|samples?|demonstrations?|few-shot|dialogues?)\b", re.I)
_DOCUMENT_HEADING = re.compile(
    r"\b(context|documents?|references?|background|article|passages?|sources?|about)\b", re.I
)


@lru_cache(maxsize=2)
def _parser(fenced: bool) -> MarkdownIt:
    markdown = MarkdownIt("commonmark").enable("table")
    markdown.core.ruler.enableOnly(["normalize", "block"])
    return markdown if fenced else markdown.disable("fence")


def blocks(text: str, fenced: bool = True) -> Iterator[tuple[Kind, int, int]]:
    """Cut a text into blocks that tile it: (kind, start, end), offsets in characters.

    Blank lines go with the block before them; a heading's words decide the kind of its section.
    Without ``fenced``, fences are text like any other.
    """
    lines = [0, *(m.end() for m in _NEWLINE.finditer(text)), len(text)]
    tops = [t for t in _parser(fenced).parse(text) if t.level == 0 and t.nesting >= 0 and t.map]
    starts = [lines[t.map[0]] for t in tops if t.map]
    section: Kind | None = None
    for i, token in enumerate(tops):
        start = starts[i] if i else 0
        end = starts[i + 1] if i + 1 < len(tops) else len(text)
        if token.type == "fence" and not _is_closed(token, text, lines):
            # What follows is hardly meant as code, though CommonMark has it so; it is the last.
            opened = min(lines[token.map[0] + 1], end) if token.map else end
            yield _prose(text[start:opened]), start, opened
            rest = blocks(text[opened:end], fenced=False)
            yield from ((kind, opened + a, opened + b) for kind, a, b in rest)
            return
        if token.type == "heading_open":
            section = _section(text[start:end])
        yield _kind(token, text[start:end], section), start, end
    if not tops and text:
        yield _prose(text), 0, len(text)


def _is_closed(fence: Token, text: str, lines: Sequence[int]) -> bool:
    assert fence.map, "blocks have lines"
    first, after = fence.map
    last = text[lines[after - 1] : lines[after]].strip()
    return after - first > 1 and last.startswith(fence.markup)


def _section(heading: str) -> Kind | None:
    if _EXAMPLE_HEADING.search(heading):
        return Kind.EXAMPLE
    return Kind.DOCUMENT if _DOCUMENT_HEADING.search(heading) else None


def _kind(token: Token, text: str, section: Kind | None) -> Kind:
    if token.type in ("fence", "code_block"):
        return Kind.JSON if token.info.strip().lower() in ("json", "jsonl") else Kind.CODE
    if token.type == "table_open":
        return Kind.TABLE
    if _is_json(text):
        return Kind.JSON
    if token.type in ("bullet_list_open", "ordered_list_open") and section is not Kind.EXAMPLE:
        return Kind.LIST
    return section or _prose(text)


def _prose(text: str) -> Kind:
    if _TURN.search(text):
        return Kind.EXAMPLE
    return Kind.INSTRUCTION if _ORDER.search(text) else Kind.DOCUMENT


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (json.JSONDecodeError, RecursionError):
        return False
