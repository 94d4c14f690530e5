"""Pieces: they tile the text, whatever is protected; fast paths cut as the plain ones do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.frontend import parse
from pcompiler.ir import Kind, Segment
from pcompiler.passes import protect, seams
from pcompiler.passes.pieces import cut, protecting

SOURCE = (
    "# Terms\n\nIt is **30 EUR** at [the desk](https://a.example), say “no more”.\n\n"
    "- one {x} item\n- two\n  1. three `x = 1`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    "```python\nfor x in y:\n    print(x)\n```\n\nDas Büro schließt um fünf. 文字列です。\n"
)
LATIN = st.text(
    st.one_of(
        st.sampled_from("aZ09_'’.-\n\r\t  "),
        st.characters(codec="utf-8", max_codepoint=0x2100, exclude_categories=["Cs"]),
    ),
    max_size=60,
)
SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8)


@settings(deadline=None, max_examples=400)
@given(LATIN)
def test_latin_text_is_cut_as_any_other(text: str) -> None:
    if seams._LATIN.fullmatch(text):
        assert seams._LATIN_PIECE.findall(text) == seams._PIECE.findall(text)


def test_a_word_that_is_none_is_cut_in_latin_text_too() -> None:
    ends = seams.word_ends(Segment(Kind.DOCUMENT, "a" * 120, 0, "a" * 120))
    assert ends.tolist() == [seams.MAX_PIECE + 1, 2 * (seams.MAX_PIECE + 1), 120]


@pytest.mark.parametrize("classes", [(), ("numbers",), protect.CLASSES])
def test_pieces_tile_the_text_and_tear_nothing_that_is_protected(
    classes: tuple[str, ...],
) -> None:
    prompt = parse(SOURCE)
    found = protect.find(prompt, protect.CLASSES)
    known = seams.find(prompt, found.spans(protect.UNTORN))
    spans = seams.placed(found.spans(classes), known.offsets, 2)
    pieces = cut(prompt, spans, [[] for _ in prompt.segments], known)
    everything = pieces.texts(np.ones(len(pieces), dtype=bool))
    assert everything == [segment.text for segment in prompt.segments]
    stays = pieces.texts(pieces.protected)
    for segment, kept, of in zip(prompt.segments, stays, found.spans(classes), strict=True):
        assert all(segment.text[a:b] in kept for a, b in of)
    assert [pieces.vocabulary[word] for word in pieces.word] == [
        prompt.segments[of].text[a:b].strip()
        for of, a, b in zip(pieces.segment, pieces.start, pieces.end, strict=True)
    ]
    assert np.array_equal(protecting(pieces, spans, known).protected, pieces.protected)


@given(st.lists(SPANS, min_size=1, max_size=4))
def test_spans_are_joined_within_their_segments_only(found: list[list[tuple[int, int]]]) -> None:
    offsets = np.arange(len(found) + 1) * 40
    given_ = [[(a, a + size) for a, size in spans] for spans in found]
    apart = seams.placed([protect._joined(spans) for spans in given_], offsets, 2)
    joined = seams.joined(seams.placed(given_, offsets, 2), offsets)

    def inside(spans: np.ndarray) -> set[int]:
        return {point for a, b in spans.tolist() for point in range(a + 1, b)}

    assert inside(joined) == inside(apart)
