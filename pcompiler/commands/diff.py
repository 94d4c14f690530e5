"""What shortening dropped, shown in the full prompt: coloured in a terminal, or as a page."""

from __future__ import annotations

import html

from pcompiler.changes import Change

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
