"""Author's fences: parts to keep verbatim, to compress, or to drop first.

A marker is an HTML comment alone on its line, invisible in rendered Markdown:

    <!-- pcompiler:keep -->          also: compress, drop-first
    Refunds over 500 EUR need a supervisor.
    <!-- pcompiler:end -->

Markers are in the source but not in what the model sees. Parts do not nest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pcompiler.errors import InputError
from pcompiler.ir import Policy

_MARKER = re.compile(r"^[ \t]*<!--[ \t]*pcompiler:([\w-]*)[ \t]*-->[ \t]*(?:\r\n|\r|\n|\Z)", re.M)


@dataclass(frozen=True)
class Part:
    """A marker line, or the text between two; ``start`` is in characters."""

    text: str
    start: int
    policy: Policy
    is_marker: bool


def split(text: str) -> Iterator[Part]:
    """Cut a text at its markers; the parts tile it.

    Raises:
        InputError: an unknown, nested, unopened or unclosed marker, with its line.
    """
    position, policy, opened_at = 0, Policy.COMPRESS, 0
    for marker in _MARKER.finditer(text):
        line = text.count("\n", 0, marker.start()) + 1
        word = marker.group(1)
        if marker.start() > position:
            yield Part(text[position : marker.start()], position, policy, False)
        yield Part(marker.group(), marker.start(), Policy.KEEP, True)
        position = marker.end()
        if word == "end":
            if not opened_at:
                raise InputError(f"line {line}: pcompiler:end closes nothing; remove it.")
            policy, opened_at = Policy.COMPRESS, 0
            continue
        if opened_at:
            raise InputError(
                f"line {line}: pcompiler:{word} opens inside the part of line {opened_at}; "
                "parts do not nest, close that one with <!-- pcompiler:end --> first."
            )
        policy, opened_at = _policy(word, line), line
    if opened_at:
        raise InputError(
            f"line {opened_at}: this pcompiler:{policy.value} part is never closed; "
            "add <!-- pcompiler:end --> after it."
        )
    if position < len(text):
        yield Part(text[position:], position, policy, False)


def _policy(word: str, line: int) -> Policy:
    try:
        return Policy(word)
    except ValueError:
        known = ", ".join(p.value for p in Policy)
        raise InputError(f"line {line}: pcompiler:{word} is not one of {known}, end.") from None
