"""Whitespace and markup without meaning.

In prose: trailing blanks, runs of blanks inside a line, HTML comments, and more than one blank
line in a row. Code, tables, JSON, indentation and what the author fenced stay as they are.
"""

from __future__ import annotations

import re

from pcompiler import meter
from pcompiler.ir import Kind, Policy, Prompt, Segment
from pcompiler.ranges import ranged

_PROSE = (Kind.INSTRUCTION, Kind.DOCUMENT, Kind.EXAMPLE, Kind.LIST)
# What is looked for, what stands in its place, and signs one of which is in each match: looking
# for those is a hundred times as fast.
_MEANINGLESS = (
    (re.compile(r"<!--.*?-->", re.S), "", ("<!--",)),
    (re.compile(r"[ \t]+(?=\r?\n)"), "", (" \n", "\t\n", "\r")),
    (re.compile(r"(?<=\S)[ \t]{2,}(?=\S)"), " ", ("  ", "\t")),
    (re.compile(r"(?:\r?\n){3,}"), "\n\n", ("\n\n\n", "\r")),
)


@meter.timed("pass_seconds", step="normalize")
@ranged("pass normalize")
def run(prompt: Prompt) -> Prompt:
    """The same prompt without meaningless whitespace."""
    return prompt.with_texts(_normalized(segment) for segment in prompt.segments)


def _normalized(segment: Segment) -> str:
    text = segment.text
    if segment.policy is Policy.KEEP or segment.kind not in _PROSE:
        return text
    for pattern, by, signs in _MEANINGLESS:
        if any(sign in text for sign in signs):
            text = pattern.sub(by, text)
    return text.rstrip(" \t")
