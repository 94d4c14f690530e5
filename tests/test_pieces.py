"""Text is told as soon as it is certain: whole characters, and nothing of a stop text."""

from __future__ import annotations

import random

import pytest
from conftest import byte_tokenizer

from pcompiler.runtime.pieces import Pieces

TEXT = "Grüße 😀 and a naïve end"


def ids(text: str) -> list[int]:
    found: list[int] = byte_tokenizer().encode(text, add_special_tokens=False)
    return found


def told(text: str, *stops: str) -> tuple[list[str], Pieces]:
    pieces, said = Pieces(byte_tokenizer(), stops), []
    for token in ids(text):
        said.append(pieces.push(token))
        if pieces.stopped:
            return said, pieces
    return [*said, pieces.rest()], pieces


def test_pieces_make_the_whole_text_and_end_between_characters() -> None:
    said, _ = told(TEXT)
    assert "".join(said) == TEXT
    assert len(said) > len(TEXT)  # one token a byte: most say something at once
    assert "\ufffd" not in "".join(said)


def test_an_answer_that_ends_within_a_character_says_so() -> None:
    pieces = Pieces(byte_tokenizer())
    said = [pieces.push(token) for token in ids("a😀")[:-1]]
    assert ("".join(said), pieces.rest()) == ("a", "\ufffd")


def test_nothing_of_a_stop_text_is_told_nor_what_comes_after_it() -> None:
    said, pieces = told("one\n\nUser: two", "\n\nUser:")
    assert "".join(said) == "one"
    assert pieces.stopped
    assert pieces.rest() == ""


def test_what_only_looks_like_a_stop_text_is_told_once_it_cannot_be_one() -> None:
    said, pieces = told("abab abac", "abac!", "abad")
    assert "".join(said) == "abab abac"
    assert not pieces.stopped
    assert said[3] == "ab"  # of abab: a stop text may begin with the second ab
    assert said[4] == "ab "


def test_a_beginning_that_is_never_ended_is_told_in_the_end() -> None:
    said, pieces = told("so ST", "STOP")
    assert said[:-1] == ["s", "o", " ", "", ""]
    assert said[-1] == "ST"
    assert not pieces.stopped


@pytest.mark.parametrize("seed", range(40))
def test_the_first_stop_text_ends_it_wherever_it_stands(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("abé") for _ in range(30))
    stops = ["".join(draw.choice("abé") for _ in range(draw.randint(1, 4))) for _ in range(2)]
    said, pieces = told(text, *stops)
    ends = {n: [s for s in stops if text[:n].endswith(s)] for n in range(len(text) + 1)}
    first = next((n for n, found in ends.items() if found), None)
    assert pieces.stopped == (first is not None)
    want = text if first is None else text[: first - max(map(len, ends[first]))]
    assert "".join(said) == want
