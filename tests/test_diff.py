"""The diff: both texts can be read off it, marks are balanced, pages are safe to open."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.changes import changes
from pcompiler.commands.diff import coloured, marked, page

FULL = "The desk opens at nine. It closes at five.\n\nAsk for Mrs Abt, who knows all.\n"
SHORT = "The desk opens at nine.\n\nAsk Mrs Abt, who knows all.\n"
TEXT = st.text(st.sampled_from("ab c.\n-[]<&"), max_size=80)


@settings(deadline=None)
@given(TEXT, TEXT)
def test_both_texts_can_be_read_off_it(full: str, short: str) -> None:
    parts = changes(full, short)
    assert "".join(p.text for p in parts if p.sign in " -") == full
    assert "".join(p.text for p in parts if p.sign in " +") == short
    assert all(p.text for p in parts)
    assert all(one.sign != other.sign for one, other in pairwise(parts))


def test_what_was_dropped_is_marked_where_it_was() -> None:
    parts = changes(FULL, SHORT)
    assert [p.text for p in parts if p.sign == "-"] == [" It closes at five.", " for"]
    assert marked(parts) == (
        "The desk opens at nine.[- It closes at five.-]\n\nAsk[- for-] Mrs Abt, who knows all.\n"
    )
    assert coloured(parts).count("\x1b[9;31m") == 2


def test_a_page_shows_markup_as_text() -> None:
    text = "<script>alert(1)</script> & more"
    shown = page(changes(f"{text} gone", text), "<b>", "a & b")
    assert "<script" not in shown
    assert "<title>&lt;b&gt;</title>" in shown
    assert "<del> gone</del>" in shown


def test_a_long_line_that_changes_everywhere_still_ends() -> None:
    words = [f"w{i}" for i in range(30_000)]
    parts = changes(" ".join(words), " ".join(words[::2]))
    assert "".join(p.text for p in parts if p.sign != "-") == " ".join(words[::2])
