"""A full prompt and a short one as one sequence: what was kept, dropped, and put in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

_SENTENCE = re.compile(r".+?(?:[.!?。！？]+[\"'”’)\]]*\s+|\n+|$)|\n+", re.S)
_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MAX_CELLS = 4_000_000  # words compared with words; beyond it a stretch is shown as replaced


@dataclass(frozen=True)
class Change:
    """A stretch of text: kept in both, dropped from the full prompt, or new in the short one."""

    text: str
    sign: str  # " ", "-" or "+"


def changes(full: str, short: str) -> list[Change]:
    """The full prompt and the short one as one sequence; sentences are matched before words."""
    found: list[Change] = []
    for change in _aligned(_SENTENCE.findall(full), _SENTENCE.findall(short)):
        if found and found[-1].sign == change.sign:
            found[-1] = Change(found[-1].text + change.text, change.sign)
        else:
            found.append(change)
    return found


def _aligned(full: list[str], short: list[str], words: bool = False) -> Iterator[Change]:
    if words and len(full) * len(short) > _MAX_CELLS:
        yield from (Change("".join(full), "-"), Change("".join(short), "+"))
        return
    matcher = SequenceMatcher(None, full, short, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        gone, new = "".join(full[a:b]), "".join(short[c:d])
        if kind == "equal":
            yield Change(gone, " ")
        elif kind == "replace" and not words:
            yield from _aligned(_WORD.findall(gone), _WORD.findall(new), words=True)
        else:
            yield from (Change(text, sign) for text, sign in ((gone, "-"), (new, "+")) if text)
