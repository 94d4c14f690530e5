"""What a prompt states: every passage has its question, and each text its passage."""

from __future__ import annotations

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.frontend import parse
from pcompiler.ir import Prompt
from pcompiler.passages import _EDGES, Coverage, _cloze, passages, questions

HANDBOOK = """# Harbour desk

You are the desk of a harbour. Ferries leave at 7:40 and 9:10. No dogs on board!

- Bicycles travel free of charge
- Lost luggage: call Mrs Abt

| route | price |
|---|---|
| Lübeck to Visby | 84 EUR |
"""
STATED = [
    "You are the desk of a harbour.",
    "Ferries leave at 7:40 and 9:10.",
    "No dogs on board!",
    "Bicycles travel free of charge",
    "Lost luggage: call Mrs Abt",
    "Lübeck to Visby | 84 EUR",
]
words = st.text("abcdefghijklmnop ", min_size=20, max_size=60)


def test_sentences_items_and_rows_are_passages_in_order() -> None:
    found = passages(parse(HANDBOOK))
    assert [p for p in found if p in STATED] == STATED
    assert all("---" not in p for p in found)


def test_what_the_model_does_not_see_is_no_passage() -> None:
    fenced = "<!-- pcompiler:keep -->\nFerries leave at 7:40 sharp.\n<!-- pcompiler:end -->\n"
    assert passages(parse(fenced)) == ["Ferries leave at 7:40 sharp."]
    chat = json.dumps([{"role": "system", "content": 'Say "Ahoy there" to all.\nTwo dogs bark.'}])
    assert passages(parse(chat)) == ['Say "Ahoy there" to all.', "Two dogs bark."]


def test_a_document_in_json_is_asked_about_too() -> None:
    document = json.dumps({"ferries": {"visby": "leaves at 7:40", "price": 84}}, indent=2)
    found = passages(parse(f"Answer from this:\n\n```json\n{document}\n```\n"))
    assert any("7:40" in p for p in found)
    assert any("7:40" in q or "visby" in q for q in questions(found, 40, 0))


def test_a_prompt_that_states_nothing_has_no_passages_and_no_questions() -> None:
    for nothing in (Prompt("", ()), parse("Hi"), parse("\n\n* \n")):
        assert passages(nothing) == []
    assert questions([], 10, 0) == []
    assert questions(["of the and to it is"], 10, 0) == []
    assert questions(STATED, 0, 0) == []


def test_every_passage_is_asked_before_any_is_asked_twice() -> None:
    coverage = Coverage(STATED)
    for seed in range(20):
        found = questions(STATED, len(STATED), seed)
        assert {coverage.passage(q) for q in found} == set(range(len(STATED)))
        again = [coverage.passage(q) for q in questions(STATED, 2 * len(STATED), seed)]
        assert sorted(map(str, again[: len(STATED)])) == sorted(map(str, range(len(STATED))))


@settings(max_examples=40, deadline=None)
@given(st.lists(words, max_size=8), st.integers(0, 60), st.integers(0, 2**62))
def test_questions_are_different_no_more_than_asked_and_the_same_for_a_seed(
    about: list[str], count: int, seed: int
) -> None:
    found = questions(about, count, seed)
    assert found == questions(about, count, seed)
    assert len(set(found)) == len(found) <= count
    fewer = questions(about, count // 2, seed)
    assert found[: len(fewer)] == fewer
    assert all(q[0] == q[0].upper() and q[-1] in "?." for q in found)


def test_another_seed_asks_other_questions_in_another_order() -> None:
    assert questions(STATED, 12, 0) != questions(STATED, 12, 1)


def test_a_text_is_about_the_passage_with_its_rarest_words() -> None:
    coverage = Coverage(STATED)
    assert coverage.passage("When do the FERRIES leave?") == 1
    assert coverage.passage("the ferry to Visby") == 5
    assert coverage.passage("May my dogs come along?") == 2
    assert coverage.passage("What is it that they do?") is None
    assert coverage.passage("") is None
    assert Coverage([]).passage("dogs") is None


def test_uncovered_are_texts_about_what_no_fitted_one_is_about() -> None:
    coverage = Coverage(STATED)
    held_out = ["When do ferries leave?", "Are dogs allowed?", "Quantum chromodynamics?"]
    assert coverage.uncovered(held_out, []) == [0, 1]  # the third is about no passage at all
    assert coverage.uncovered(held_out, ["Do ferries leave on Sunday?"]) == [1]
    assert coverage.uncovered(held_out, ["ferries leave", "dogs", "x"]) == []
    assert coverage.uncovered([], ["dogs"]) == []


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([*STATED, "The Normans came in 1066.", "Who is it, said Anna Lee to Bob?"]),
    st.integers(0, 99),
)
def test_a_cloze_question_asks_for_one_thing_in_the_passages_own_words(
    passage: str, seed: int
) -> None:
    question = _cloze(passage, random.Random(seed))
    if question is None:
        assert len(passage.split()) <= 5
        return
    asked = ("which year", "how many", "how much", "what number", "who", "which one", "what")
    gap = next(a for a in asked if f" {a} " in f" {question[:-1]} ")
    before, after = (part.split() for part in f" {question[:-1]} ".split(f" {gap} ", 1))
    own = [word.strip(_EDGES + ".;:!?") for word in passage.split()]
    for side in (before, after):
        words = [word.strip(_EDGES + ".;:!?") for word in side]
        assert any(own[i : i + len(words)] == words for i in range(len(own) + 1))
    assert len(before) + len(after) < len(own) + 1


def test_a_cloze_question_does_not_give_the_number_away() -> None:
    for seed in range(20):
        question = _cloze("The annual fee for members is 84 EUR.", random.Random(seed))
        assert question is not None
        assert "84" not in question
        assert "annual" in question or "EUR" in question
