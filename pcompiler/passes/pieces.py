"""A prompt in pieces: what may be dropped, down to single words, and what frames what.

A piece is a word with the blanks before it, or a mark of punctuation, or one character of a
script without spaces, or anything that must not be torn: a protected span, a link, emphasis, a
table's row, a block of code. Frames are pieces that serve others (a line break, a bullet, a
heading, a table's head): they stay as long as anything in their scope does, so that what is left
is valid Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import regex

from pcompiler.ir import Kind, Policy, Prompt, Segment
from pcompiler.passes.protect import Span
from pcompiler.passes.sections import heading_level

REPEATED, DROP_FIRST, ORDINARY = range(3)
LARGE_CODE = 2_000  # characters; longer code goes in parts: those between blank lines
MAX_PIECE = 48  # characters of a word; longer ones are cut: they are no words
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[^\W{_SPACELESS}]"
_PIECE = regex.compile(
    # A line's end with the blank lines after it, but not the next line's indentation.
    r"[^\S\n]*\n(?:[^\S\n]*\n)*"
    rf"|[^\S\n]*(?:[{_SPACELESS}]\p{{M}}*|{_LETTER}(?:{_LETTER}|['’](?=\w)){{0,{MAX_PIECE}}}|\X)",
    regex.V1,
)
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
_BULLET = regex.compile(r"[^\S\n]*(?:[-*+•]|\d{1,9}[.)]|>+)[^\S\n]+", regex.V1)
_CODE_PART = regex.compile(
    r"(?:\A[^\S\n]*(?:```|~~~)[^\n]*\n)|\n\s*\n(?=\S)|\n(?=(?:```|~~~)\s*\Z)"
)
_TABLE_RULE = regex.compile(r"[\s|:+-]+$")


@dataclass(frozen=True)
class Frame:
    """A piece that stays while any of pieces first … last − 1 does; one of a heading or other."""

    piece: int
    first: int
    last: int
    heading: bool = False


@dataclass(frozen=True)
class Pieces:
    """All pieces of a prompt, in order; arrays have one entry a piece.

    Attributes:
        prompt: what was cut.
        segment: number of its segment.
        start: where it begins in the segment's text, in characters.
        end: where it ends.
        sentence: number of its sentence, row or item.
        protected: whether it has to stay.
        tier: those of a lower one go first: REPEATED, what the author marked so, the rest.
        frames: those that serve others, inner before outer.
    """

    prompt: Prompt
    segment: np.ndarray
    start: np.ndarray
    end: np.ndarray
    sentence: np.ndarray
    protected: np.ndarray
    tier: np.ndarray
    frames: Sequence[Frame]

    def __len__(self) -> int:
        return len(self.segment)

    @property
    def is_frame(self) -> np.ndarray:
        """(n,) whether each serves others."""
        found = np.zeros(len(self), dtype=bool)
        found[[frame.piece for frame in self.frames]] = True
        return found

    @property
    def has_headings(self) -> bool:
        """Whether some frames are headings."""
        return any(frame.heading for frame in self.frames)

    def without_headings(self) -> Pieces:
        """The same pieces, with headings that are no frames."""
        return replace(self, frames=[frame for frame in self.frames if not frame.heading])

    def words(self) -> list[str]:
        """Each piece's text, without the blanks around it."""
        texts = [segment.text for segment in self.prompt.segments]
        columns = (column.tolist() for column in (self.segment, self.start, self.end))
        return [texts[i][a:b].strip() for i, a, b in zip(*columns, strict=True)]

    def texts(self, keep: np.ndarray) -> list[str]:
        """Each segment's text with only some pieces kept.

        Words that dropping would glue together get a blank between them.
        """
        texts = [segment.text for segment in self.prompt.segments]
        runs: list[list[str]] = [[] for _ in texts]
        for first, last in _runs(keep, self.segment):
            number = self.segment[first]
            part = texts[number][self.start[first] : self.end[last]]
            before = runs[number]
            if before and _glued(before[-1][-1], part[0]):
                before.append(" ")
            before.append(part)
        return ["".join(parts) for parts in runs]


@dataclass(frozen=True)
class Seams:
    """Where a segment may be cut at all, whatever is protected: the slow part of cutting.

    Attributes:
        ends: of its words, (w,) in characters.
        sentences: where its sentences end.
        whole: what must not be torn.
    """

    ends: np.ndarray
    sentences: np.ndarray
    whole: Sequence[Span]


def cut(
    prompt: Prompt,
    protected: Sequence[Sequence[Span]],
    repeated: Sequence[Sequence[Span]],
    known: Sequence[Seams],
) -> Pieces:
    """Cut a prompt.

    Args:
        prompt: what is cut.
        protected: each segment's spans that have to stay, sorted and apart.
        repeated: each segment's spans that say nothing new.
        known: of each segment, where it may be cut.
    """
    columns: list[np.ndarray] = []
    frames: list[Frame] = []
    headings: list[tuple[int, int, int]] = []  # of those still open: level, first piece, last
    pieces = sentences = 0
    for number, (segment, spans) in enumerate(zip(prompt.segments, protected, strict=True)):
        bounds = _bounds(known[number], spans)
        if not len(bounds):
            continue
        # An end found lies after the blank that the next sentence's first piece begins with.
        own = np.searchsorted(known[number].sentences, bounds[:, 0] + 1, "right")
        sentence = sentences + own
        sentences = int(sentence[-1]) + 1
        kept = _covered(bounds, spans)
        of = np.full(len(bounds), number)
        first = DROP_FIRST if segment.policy is Policy.DROP_FIRST else ORDINARY
        tier = np.where(_covered(bounds, repeated[number]), REPEATED, first)
        columns.append(np.column_stack([of, bounds, sentence, kept, tier]))
        if (level := heading_level(segment)) is not None:
            frames += _closed(headings, level, pieces)
            headings.append((level, pieces, pieces + len(bounds)))
        else:
            frames += _frames(segment, bounds, pieces)
        pieces += len(bounds)
    frames += _closed(headings, 0, pieces)
    table = np.concatenate(columns) if columns else np.zeros((0, 6), dtype=np.int64)
    of, start, end, sentence, stays, tier = table.T
    return Pieces(prompt, of, start, end, sentence, stays.astype(bool), tier, frames)


def seams(segment: Segment, whole: Sequence[Span] = ()) -> Seams:
    """Words, sentences, and what must not be torn, of one segment's text."""
    text = segment.text
    nowhere = np.zeros(0, dtype=np.int64)
    if segment.kind is Kind.JSON or (segment.kind is Kind.CODE and len(text) <= LARGE_CODE):
        return Seams(np.array([len(text)] if text else [], dtype=np.int64), nowhere, ())
    if segment.kind is Kind.CODE:
        ends = np.array([*(m.end() for m in _CODE_PART.finditer(text)), len(text)], dtype=np.int64)
        return Seams(ends, ends, ())
    if segment.kind is Kind.TABLE:
        ends = np.cumsum([len(line) for line in text.splitlines(keepends=True)])
        return Seams(ends, ends, ())
    return Seams(
        np.array([m.end() for m in _PIECE.finditer(text)], dtype=np.int64),
        np.array([m.end() for m in SENTENCE_END.finditer(text)], dtype=np.int64),
        [*whole, *(m.span() for m in _WHOLE.finditer(text))],
    )


def _bounds(seams: Seams, spans: Sequence[Span]) -> np.ndarray:
    """(n, 2) start and end of each piece."""
    ends = seams.ends
    if not len(ends):
        return np.zeros((0, 2), dtype=np.int64)
    inside = np.zeros(len(ends), dtype=bool)  # ends that fall within what must not be torn
    for a, b in (*spans, *seams.whole):
        inside[np.searchsorted(ends, a, "right") : np.searchsorted(ends, b, "left")] = True
    ends = ends[~inside]
    return np.column_stack([np.concatenate([[0], ends[:-1]]), ends])


def _covered(bounds: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    kept = np.zeros(len(bounds), dtype=bool)
    for a, b in spans:
        if b > a:
            first = np.searchsorted(bounds[:, 1], a, "right")
            kept[first : np.searchsorted(bounds[:, 0], b, "left")] = True
    return kept


def _frames(segment: Segment, bounds: np.ndarray, offset: int) -> Iterator[Frame]:
    """Line breaks and bullets of a segment; a table's head and rule; the fences of code."""
    text = segment.text
    if segment.kind in (Kind.CODE, Kind.JSON):
        if len(bounds) > 2 and text.lstrip()[:3] in ("```", "~~~"):
            inner = offset + 1, offset + len(bounds) - 1
            yield from (Frame(i, *inner) for i in (offset, offset + len(bounds) - 1))
        return
    if segment.kind is Kind.TABLE:
        head = 2 if len(bounds) > 2 and _TABLE_RULE.match(text[slice(*bounds[1])]) else 0
        yield from (Frame(offset + i, offset + head, offset + len(bounds)) for i in range(head))
        return
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    breaks = np.flatnonzero(points[bounds[:, 1] - 1] == ord("\n")).tolist()
    line = 0
    for at in breaks:
        blank = not text[bounds[at, 0] : bounds[at, 1]].strip()
        if blank and at > line:
            yield Frame(offset + at, offset + line, offset + at)
        yield from _bullet(segment, bounds, offset, line, at)
        line = at + 1
    yield from _bullet(segment, bounds, offset, line, len(bounds))


def _bullet(
    segment: Segment, bounds: np.ndarray, offset: int, first: int, after: int
) -> Iterator[Frame]:
    """The marks that a line of pieces first … after − 1 begins with."""
    if first < after and (found := _BULLET.match(segment.text, bounds[first, 0])) is not None:
        last = int(np.searchsorted(bounds[:, 0], found.end() - 1, "left"))
        if last < after:
            yield from (
                Frame(offset + i, offset + last, offset + after) for i in range(first, last)
            )


def _closed(headings: list[tuple[int, int, int]], level: int, at: int) -> Iterator[Frame]:
    """Frames of the open headings that one of this level ends."""
    while headings and headings[-1][0] >= level:
        _, first, last = headings.pop()
        if at > last:
            yield from (Frame(i, last, at, heading=True) for i in range(first, last))


def _runs(keep: np.ndarray, segment: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last piece of each unbroken run of kept pieces within a segment."""
    kept = np.flatnonzero(keep)
    if not len(kept):
        return
    breaks = np.flatnonzero((np.diff(kept) > 1) | (np.diff(segment[kept]) > 0))
    firsts = kept[np.concatenate([[0], breaks + 1])]
    lasts = kept[np.concatenate([breaks, [len(kept) - 1]])]
    yield from zip(firsts.tolist(), lasts.tolist(), strict=True)


def _glued(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and not (_wide(left) or _wide(right))


def _wide(character: str) -> bool:
    return regex.match(rf"[{_SPACELESS}]", character) is not None
