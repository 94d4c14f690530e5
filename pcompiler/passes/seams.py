"""Where a prompt may be cut, whatever is protected: the slow part of cutting, done once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import regex

from pcompiler.ir import Kind, Prompt, Segment
from pcompiler.passes.protect import Span
from pcompiler.passes.sections import heading_level

LARGE_CODE = 2_000  # characters; longer code goes in parts: those between blank lines
MAX_PIECE = 48  # characters of a word; longer ones are cut: they are no words
PROSE = frozenset(Kind) - {Kind.CODE, Kind.JSON, Kind.TABLE}
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[^\W{SPACELESS}]"
_PIECE = regex.compile(
    # A line's end with the blank lines after it, but not the next line's indentation.
    r"[^\S\n]*\n(?:[^\S\n]*\n)*"
    rf"|[^\S\n]*(?:[{SPACELESS}]\p{{M}}*|{_LETTER}(?:{_LETTER}|['’](?=\w)){{0,{MAX_PIECE}}}|\X)",
    regex.V1,
)
# The same three times as fast, for text of characters that both libraries see alike.
_LATIN_PIECE = re.compile(r"[^\S\n]*\n(?:[^\S\n]*\n)*|[^\S\n]*(?:\w+(?:['’]\w+)*|.)")
_LATIN = re.compile("[\x00-\x1b\x20-\xb1\xb4-\xb8\xba\xbb\xbf-\u024f\u2010-\u2027\u2030-\u203a€]*")
_ABBREVIATED = r"(?<!\b(?:\p{L}|Mr|Mrs|Ms|Dr|St|Sr|Jr|vs|e\.g|i\.e|No|cf|ca)\.)"
# With the blanks that follow; single line ends within a paragraph end no sentence.
SENTENCE_END = regex.compile(
    rf"[.!?…]{_ABBREVIATED}[\"'”’)\]]*\s+(?=[^\p{{Ll}}\s])|[。！？؟]|\n(?!\s*\p{{Ll}})", regex.V1
)
# Torn, these would leave marks without their counterpart.
_WHOLE = regex.compile(
    r"!?\[[^\[\]\n]{0,300}\]\([^()\n]{0,500}\)|(\*\*|__|~~)(?=\S)[^\n*_~]{1,200}(?<=\S)\1"
    r"|`[^`\n]{1,500}`|</?[A-Za-z][^<>\n]{0,200}>"
)
_BULLET = regex.compile(r"^[^\S\n]*(?:[-*+•]|\d{1,9}[.)]|>+)[^\S\n]+", regex.V1 | regex.M)
_CODE_PART = regex.compile(
    r"(?:\A[^\S\n]*(?:```|~~~)[^\n]*\n)|\n\s*\n(?=\S)|\n(?=(?:```|~~~)\s*\Z)"
)


@dataclass(frozen=True)
class Seams:
    """Of all segments, in characters of the prompt's texts end to end.

    Attributes:
        text: these texts.
        offsets: (segments + 1,) where each segment begins, and the last one ends.
        ends: (w,) where words end.
        segment: (w,) number of each word's segment.
        sentences: where sentences end.
        whole: (k, 2) start and end of what must not be torn.
        bullets: (b, 2) start and end of what the lines of prose begin with.
        levels: of each segment that is a heading.
        numbers: of the texts of words, and of those that pieces turn out to have.
    """

    text: str
    offsets: np.ndarray
    ends: np.ndarray
    segment: np.ndarray
    sentences: np.ndarray
    whole: np.ndarray
    bullets: np.ndarray
    levels: Sequence[int | None]
    numbers: dict[str, int] = field(default_factory=dict)

    @cached_property
    def word(self) -> np.ndarray:
        """(w,) number of each word."""
        return self.numbered(np.concatenate([[0], self.ends[:-1]]), self.ends)

    def numbered(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """(n,) numbers of parts of the text, without the blanks around them."""
        text, numbers = self.text, self.numbers
        parts = zip(starts.tolist(), ends.tolist(), strict=True)
        words = [text[a:b].strip() for a, b in parts]
        return np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)


def find(prompt: Prompt, untorn: Sequence[Sequence[Span]]) -> Seams:
    """Words, sentences, bullets, and what must not be torn, beside spans known for it."""
    offsets = np.cumsum([0, *(len(segment.text) for segment in prompt.segments)])
    ends, sentences, bullets = [], [], []
    whole = [list(spans) for spans in untorn]
    for segment, spans in zip(prompt.segments, whole, strict=True):
        ends.append(word_ends(segment))
        prose = segment.kind in PROSE
        found = SENTENCE_END.finditer(segment.text) if prose else ()
        sentences.append([m.end() for m in found] if prose else ends[-1])
        bullets.append([m.span() for m in _BULLET.finditer(segment.text)] if prose else [])
        if prose:
            spans += [m.span() for m in _WHOLE.finditer(segment.text)]
        else:
            spans.clear()
    return Seams(
        "".join(segment.text for segment in prompt.segments),
        offsets,
        placed(ends, offsets, 1),
        np.repeat(np.arange(len(ends)), [len(of) for of in ends]),
        placed(sentences, offsets, 1),
        placed(whole, offsets, 2),
        placed(bullets, offsets, 2),
        [heading_level(segment) for segment in prompt.segments],
    )


def placed(found: Sequence[Any], offsets: np.ndarray, width: int) -> np.ndarray:
    """What was found in each segment, (n,) or (n, width), counted from the prompt's beginning."""
    parts = [np.asarray(of, dtype=np.int64).reshape(-1, width) for of in found if len(of)]
    if not parts:
        return np.zeros((0, width) if width > 1 else 0, dtype=np.int64)
    begins = offsets[:-1].repeat([len(of) for of in found])
    table: np.ndarray = np.concatenate(parts) + begins[:, None]
    return table if width > 1 else table[:, 0]


def word_ends(segment: Segment) -> np.ndarray:
    """(w,) where a segment's words end; of code and tables parts and rows, of JSON itself."""
    text = segment.text
    if segment.kind is Kind.JSON or (segment.kind is Kind.CODE and len(text) <= LARGE_CODE):
        return np.array([len(text)] if text else [], dtype=np.int64)
    if segment.kind is Kind.CODE:
        return np.array([*(m.end() for m in _CODE_PART.finditer(text)), len(text)], dtype=np.int64)
    if segment.kind is Kind.TABLE:
        return np.cumsum([len(line) for line in text.splitlines(keepends=True)], dtype=np.int64)
    found = _LATIN_PIECE.findall(text) if _LATIN.fullmatch(text) else None
    if found is None or max(map(len, found), default=0) > MAX_PIECE:
        found = _PIECE.findall(text)
    return np.cumsum(list(map(len, found)), dtype=np.int64)


def joined(spans: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(k, 2) spans that overlap or touch made one, but where one begins with its segment."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.isin(spans[:, 0], offsets)
    first[1:] |= spans[1:, 0] > reach[:-1]
    first[:1] = True
    return np.column_stack([spans[first, 0], reach[np.roll(first, -1)]])
