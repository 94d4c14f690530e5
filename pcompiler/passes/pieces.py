"""A prompt in pieces: what may be dropped, down to single words, and what frames what.

A piece is a word with the blanks before it, or a mark of punctuation, or one character of a
script without spaces, or anything that must not be torn: a protected span, a link, emphasis, a
table's row, a block of code. Frames are pieces that serve others (a line break, a bullet, a
heading, a table's head): they stay as long as anything in their scope does, so that what is left
is valid Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import regex

from pcompiler.ir import Policy, Prompt
from pcompiler.passes import frames
from pcompiler.passes.protect import Span
from pcompiler.passes.seams import SPACELESS, Seams, placed
from pcompiler.ranges import ranged

REPEATED, DROP_FIRST, ORDINARY = range(3)
_WIDE = regex.compile(rf"[{SPACELESS}]")


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
        word: number of its text, without the blanks around it, in the vocabulary.
        vocabulary: all such texts.
        frames: (f, 3) of those that serve others the number, and the first and last + 1 of the
            pieces that they serve.
        headings: (h, 3) the same of those that are headings.
    """

    prompt: Prompt
    segment: np.ndarray
    start: np.ndarray
    end: np.ndarray
    sentence: np.ndarray
    protected: np.ndarray
    tier: np.ndarray
    word: np.ndarray
    vocabulary: Sequence[str]
    frames: np.ndarray
    headings: np.ndarray

    def __len__(self) -> int:
        return len(self.segment)

    @property
    def all_frames(self) -> np.ndarray:
        """(f + h, 3) frames and headings."""
        return np.concatenate([self.frames, self.headings])

    @property
    def is_frame(self) -> np.ndarray:
        """(n,) whether each serves others."""
        found = np.zeros(len(self), dtype=bool)
        found[self.all_frames[:, 0]] = True
        return found

    def without_headings(self) -> Pieces:
        """The same pieces, with headings that are no frames."""
        return replace(self, headings=self.headings[:0])

    def texts(self, keep: np.ndarray) -> list[str]:
        """Each segment's text with only some pieces kept.

        Words that dropping would glue together get a blank between them.
        """
        texts = [segment.text for segment in self.prompt.segments]
        runs: list[list[str]] = [[] for _ in texts]
        first, last = _runs(keep, self.segment)
        columns = self.segment[first], self.start[first], self.end[last]
        for number, start, end in zip(*(column.tolist() for column in columns), strict=True):
            part = texts[number][start:end]
            before = runs[number]
            if before and _glued(before[-1][-1], part[0]):
                before.append(" ")
            before.append(part)
        return ["".join(parts) for parts in runs]


@ranged("pass cut")
def cut(
    prompt: Prompt,
    protected: np.ndarray,
    repeated: Sequence[Sequence[Span]],
    known: Seams,
) -> Pieces:
    """Cut a prompt.

    Args:
        prompt: what is cut.
        protected: (k, 2) spans that have to stay, sorted and apart, from the prompt's beginning.
        repeated: each segment's spans that say nothing new.
        known: where it may be cut.
    """
    inside = _within(known.ends, known.ends, np.concatenate([protected, known.whole]))
    last = np.flatnonzero(~inside)  # words
    end, of = known.ends[last], known.segment[last]
    start = np.concatenate([[0], end[:-1]])
    # An end found lies after the blank that the next sentence's first piece begins with.
    sentence = np.searchsorted(known.sentences, start + 1, "right") + of
    first = [DROP_FIRST if s.policy is Policy.DROP_FIRST else ORDINARY for s in prompt.segments]
    again = _within(end, start, placed(repeated, known.offsets, 2))
    tier = np.where(again, REPEATED, np.array(first, dtype=np.int64)[of])
    stays = _within(end, start, protected)
    return Pieces(
        prompt,
        of,
        start - known.offsets[of],
        end - known.offsets[of],
        sentence,
        stays,
        tier,
        _words(known, last, start, end),
        list(known.numbers),
        frames.find(prompt, known, of, start, end),
        frames.headings(known, of),
    )


def protecting(pieces: Pieces, protected: np.ndarray, known: Seams) -> Pieces:
    """The same pieces, of which others have to stay; see ``cut``."""
    begins = known.offsets[pieces.segment]
    stays = _within(begins + pieces.end, begins + pieces.start, protected)
    return replace(pieces, protected=stays)


def _words(known: Seams, last: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(n,) numbers of the pieces' texts, each of which ends with a word."""
    words: np.ndarray = known.word[last]
    joined = np.flatnonzero(np.diff(last, prepend=-1) > 1)
    words[joined] = known.numbered(start[joined], end[joined])
    return words


def _within(ends: np.ndarray, starts: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """(n,) whether some (k, 2) span holds a part of each, from starts to ends, in order."""
    spans = spans[spans[:, 1] > spans[:, 0]]
    first = np.searchsorted(ends, spans[:, 0], "right")
    after = np.maximum(np.searchsorted(starts, spans[:, 1], "left"), first)
    open_spans = np.zeros(len(ends) + 1, dtype=np.int64)
    np.add.at(open_spans, first, 1)
    np.add.at(open_spans, after, -1)
    found: np.ndarray = np.cumsum(open_spans)[:-1] > 0
    return found


def _runs(keep: np.ndarray, segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(r,) first and last piece of each unbroken run of kept pieces within a segment."""
    kept = np.flatnonzero(keep)
    breaks = np.flatnonzero((np.diff(kept) > 1) | (np.diff(segment[kept]) > 0))
    firsts = np.concatenate([kept[:1], kept[breaks + 1]])
    return firsts, np.concatenate([kept[breaks], kept[-1:]])


def _glued(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and not (_wide(left) or _wide(right))


def _wide(character: str) -> bool:
    return _WIDE.match(character) is not None
