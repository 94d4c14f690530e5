"""Whitespace and markup without meaning.

In prose: trailing blanks, runs of blanks inside a line, HTML comments, and more than one blank
line in a row. Code, tables, JSON, indentation and what the author fenced stay as they are.
"""

from __future__ import annotations

import re

from pcompiler.ir import Kind, Policy, Prompt, Segment

_PROSE = (Kind.INSTRUCTION, Kind.DOCUMENT, Kind.EXAMPLE, Kind.LIST)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_LINE_END = re.compile(r"[ \t]+(?=\r?\n|\Z)")
_INNER_BLANKS = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)")
_BLANK_LINES = re.compile(r"(?:\r?\n){3,}")


def run(prompt: Prompt) -> Prompt:
    """The same prompt without meaningless whitespace."""
    return prompt.with_texts(_normalized(segment) for segment in prompt.segments)


def _normalized(segment: Segment) -> str:
    text = segment.text
    if segment.policy is Policy.KEEP or segment.kind not in _PROSE:
        return text
    for pattern, by in (
        (_COMMENT, ""),
        (_LINE_END, ""),
        (_INNER_BLANKS, " "),
        (_BLANK_LINES, "\n\n"),
    ):
        text = pattern.sub(by, text)
    return text
