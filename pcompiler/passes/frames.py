"""Pieces that serve others: line breaks, bullets, headings, a table's head, the fences of code.

Each is three numbers: the piece, and the first and last + 1 of those that it serves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import regex

from pcompiler.ir import Kind, Prompt
from pcompiler.passes.seams import PROSE, Seams

_TABLE_RULE = regex.compile(r"[\s|:+-]+$")


def find(
    prompt: Prompt, known: Seams, segment: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """(f, 3) all but headings.

    Args:
        prompt: what was cut.
        known: where it could be cut.
        segment: (n,) of each piece.
        start: (n,) where it begins, from the prompt's beginning.
        end: (n,) where it ends.
    """
    segments = prompt.segments
    begins = np.searchsorted(segment, np.arange(len(segments) + 1))  # first pieces
    blocks = [
        frame
        for number, (one, first, after) in enumerate(
            zip(segments, begins.tolist(), begins[1:].tolist(), strict=False)
        )
        if one.kind not in PROSE
        for frame in _of_block(one.kind, known.text, first, start[first:after], end[first:after])
    ]
    levels = zip(segments, known.levels, strict=True)
    prose = [of.kind in PROSE and level is None for of, level in levels]
    ends, breaks = _line_ends(known.text, np.array(prose, dtype=bool)[segment], segment, end)
    first = np.maximum(np.concatenate([[0], ends[:-1] + 1]), begins[segment[ends]])
    return np.concatenate(
        [
            np.array(blocks, dtype=np.int64).reshape(-1, 3),
            _breaks(known.text, first[breaks], ends[breaks], start, end),
            _bullets(known.bullets, first, ends + ~breaks, start),
        ]
    )


def headings(known: Seams, segment: np.ndarray) -> np.ndarray:
    """(h, 3) of the pieces of headings: they serve all up to the next of their level or above."""
    begins = np.searchsorted(segment, np.arange(len(known.levels) + 1)).tolist()
    found: list[tuple[int, int, int]] = []
    still_open: list[tuple[int, int, int]] = []  # level, first piece, last + 1
    for number, level in enumerate([*known.levels, 0]):
        if level is None or (level and begins[number] == begins[number + 1]):
            continue
        at = begins[number]
        while still_open and still_open[-1][0] >= level:
            _, first, after = still_open.pop()
            found += [(i, after, at) for i in range(first, after) if at > after]
        if level:
            still_open.append((level, at, begins[number + 1]))
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _of_block(
    kind: Kind, text: str, first: int, start: np.ndarray, end: np.ndarray
) -> Iterator[tuple[int, int, int]]:
    """A table's head and rule, the fences of code that is cut; its pieces begin with first."""
    after = first + len(start)
    if len(start) <= 2:
        return
    if kind is Kind.TABLE:
        if _TABLE_RULE.match(text[start[1] : end[1]]):
            yield from ((first + i, first + 2, after) for i in range(2))
    elif text[start[0] : end[0]].lstrip()[:3] in ("```", "~~~"):
        yield from ((i, first + 1, after - 1) for i in (first, after - 1))


def _line_ends(
    text: str, prose: np.ndarray, segment: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(l,) last pieces of the lines of prose, and whether the line's end is in them."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    breaks = points[end - 1] == ord("\n")
    last = np.diff(segment, append=-1) != 0
    ends = np.flatnonzero((breaks | last) & prose)
    return ends, breaks[ends]


def _breaks(
    text: str, first: np.ndarray, ends: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """The ends of lines, blank ones aside; those that are pieces of their own."""
    at = zip(start[ends].tolist(), end[ends].tolist(), strict=True)
    chosen = np.array([text[a:b].isspace() for a, b in at], dtype=bool) & (ends > first)
    return np.column_stack([ends, first, ends])[chosen]


def _bullets(
    bullets: np.ndarray, first: np.ndarray, after: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """The marks that lines of pieces first … after − 1 begin with."""
    filled = first < after
    first, after = first[filled], after[filled]
    _, found, lines = np.intersect1d(
        bullets[:, 0], start[first], assume_unique=True, return_indices=True
    )
    first, after = first[lines], after[lines]
    item = np.searchsorted(start, bullets[found, 1] - 1, "left")
    marks = np.where(item < after, item - first, 0)
    begins = np.repeat(first - np.cumsum(marks) + marks, marks)
    return np.column_stack(
        [begins + np.arange(marks.sum()), np.repeat(item, marks), np.repeat(after, marks)]
    )
