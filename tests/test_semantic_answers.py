import pytest

from benches.semantic_answers import contains, exact_match, f1, normalize, scores


def test_case_punctuation_articles_and_spaces_do_not_count() -> None:
    assert normalize("  The  Normans, in\nan “A-team”.") == "normans in “ateam”"
    assert exact_match("The 10th century.", "10th  Century") == 1
    assert normalize("another theory") == "another theory"


def test_f1_counts_shared_words_as_often_as_both_have_them() -> None:
    assert f1("in the 10th century", "10th century") == pytest.approx(0.8)
    assert f1("no no yes", "no maybe") == pytest.approx(2 * 1 / 5)
    assert f1("Rollo", "Charles") == 0


def test_a_longer_answer_contains_a_right_one_by_whole_words() -> None:
    assert contains("They came in the 10th century.", "10th Century") == 1
    assert contains("They came from Normandy.", "Norman") == 0


def test_an_answer_without_words_is_right_only_where_nothing_is_asked_for() -> None:
    assert f1("the.", "") == 1
    assert f1("", "Rollo") == 0


def test_of_several_right_answers_the_nearest_counts() -> None:
    found = scores(["France", "Rollo of Norway"], [["Italy", "france"], ["Rollo", "Charles III"]])
    assert found == {"exact_match": 0.5, "contains": 1.0, "f1": pytest.approx((1 + 0.5) / 2)}
