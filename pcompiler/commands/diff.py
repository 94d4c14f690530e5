"""What shortening dropped, shown in the full prompt: coloured in a terminal, or as a page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

_SENTENCE = re.compile(r".+?(?:[.!?。！？]+[\"'”’)\]]*\s+|\n+|$)|\n+", re.S)
_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MAX_CELLS = 4_000_000  # words compared with words; beyond it a stretch is shown as replaced
_GONE, _NEW, _PLAIN = "\x1b[9;31m", "\x1b[32m", "\x1b[0m"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font: inherit }}
del {{ color: #b00020; background: #fdecea }}
ins {{ color: #1b5e20; background: #e8f5e9; text-decoration: none }}
</style>
<h1>{title}</h1><p>{summary}</p>
<pre>{body}</pre>
</html>
"""


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


def coloured(parts: list[Change]) -> str:
    """For a terminal: dropped text red and struck out, new text green."""
    colour = {"-": _GONE, "+": _NEW}
    return "".join(
        f"{colour[p.sign]}{p.text}{_PLAIN}" if p.sign in colour else p.text for p in parts
    )


def marked(parts: list[Change]) -> str:
    """For a file or a pipe: dropped text as [-…-], new text as {+…+}, as wdiff writes them."""
    marks = {"-": ("[-", "-]"), "+": ("{+", "+}"), " ": ("", "")}
    return "".join(p.text.join(marks[p.sign]) for p in parts)


def page(parts: list[Change], title: str, summary: str) -> str:
    """One HTML file that needs nothing else."""
    tags = {"-": "del", "+": "ins"}
    body = "".join(
        f"<{tags[p.sign]}>{html.escape(p.text)}</{tags[p.sign]}>"
        if p.sign in tags
        else html.escape(p.text)
        for p in parts
    )
    return _PAGE.format(title=html.escape(title), summary=html.escape(summary), body=body)


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
