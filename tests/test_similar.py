"""Near-duplicates: all of them found, nothing else, and the same in every process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcompiler.errors import InputError
from pcompiler.passes.similar import _jaccard, _shingles, near_duplicates

ROOT = Path(__file__).parent.parent
RULE = (
    "A customer may return a bicycle within thirty days of delivery if it has been ridden no "
    "more than fifty kilometres and if all of its parts are in the carton"
)
OTHERS = [
    "The workshop is closed on Sunday and on public holidays.",
    "Batteries that have been opened cannot be returned.",
    "We do not deliver to Switzerland; collecting in Freiburg is free.",
]
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=12).map(" ".join)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Word frequencies as in prose (Zipf), 8 to 30 words each."""
    pick = random.Random(seed)
    words, weights = [f"w{i}" for i in range(5000)], [1 / (i + 1) for i in range(5000)]
    return [" ".join(pick.choices(words, weights, k=pick.randint(8, 30))) for _ in range(count)]


def test_a_repetition_points_to_the_first_one_and_others_to_nothing() -> None:
    assert near_duplicates([RULE, *OTHERS, RULE, RULE]) == [None] * 4 + [0, 0]


@pytest.mark.parametrize(
    "changed",
    [
        RULE.upper() + "!",
        "  " + RULE.replace(" ", "\n"),
        RULE + " please",
        RULE.replace("carton", "box"),
        RULE.replace("of delivery", "of the delivery"),
    ],
)
def test_small_changes_are_near_repetitions(changed: str) -> None:
    assert near_duplicates([*OTHERS, RULE, changed])[-1] == 3


def test_the_same_words_in_another_order_are_not_a_repetition() -> None:
    assert near_duplicates(["the shop pays the customer", "the customer pays the shop"]) == [
        None,
        None,
    ]


@given(st.lists(WORDS, max_size=14), st.sampled_from([0.3, 0.5, 0.85, 1.0]))
def test_every_pair_above_the_threshold_is_found(texts: list[str], threshold: float) -> None:
    found, sets = near_duplicates(texts, threshold), _shingles(texts)
    for i, j in enumerate(found):
        stay = [k for k in range(i) if found[k] is None and sets[k] and sets[i]]
        scores = [_jaccard(sets[i], sets[k], threshold) for k in stay]
        best = max(scores, default=0.0)
        if j is None:
            assert best < threshold
        else:
            assert found[j] is None
            assert j == stay[scores.index(best)]
            assert best >= threshold


def test_a_refused_pair_stays_and_can_be_repeated_itself() -> None:
    five, six = RULE.replace("fifty", "5"), RULE.replace("fifty", "6")

    def same_numbers(one: str, other: str) -> bool:
        return [c for c in one if c.isdigit()] == [c for c in other if c.isdigit()]

    assert near_duplicates([five, six, six]) == [None, 0, 0]
    assert near_duplicates([five, six, six], allow=same_numbers) == [None, None, 1]


def test_a_long_table_of_like_rows_asks_about_few_pairs_of_each() -> None:
    rows = [f"{RULE}: row {i} of the table" for i in range(400)]
    asked = []

    def never(one: str, other: str) -> bool:
        asked.append((one, other))
        return False

    assert near_duplicates(rows, allow=never) == [None] * 400
    assert len(asked) < 400 * 100


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("退款需要经理批准，并且在十个工作日内付款。", "工作坊在星期日和公共假期关闭，请发邮件。"),
        ("返品は三十日以内に可能です。", "工房は日曜日に閉まっています。"),
        ("การคืนเงินต้องได้รับอนุมัติ", "ร้านปิดในวันอาทิตย์"),
        ("يجبنسخالخادماحتياطياكليومقبلالساعةالسادسة", "المبالغالمستردةتحتاجإلىموافقةالمدير"),
        ("https://a.example/" + "x1y2" * 20, "https://b.example/" + "q8z3" * 20),
    ],
)
def test_texts_without_spaces_are_compared_by_characters(text: str, other: str) -> None:
    assert near_duplicates([text, other, text + "。"]) == [None, None, 0]
    assert near_duplicates([text * 4, other, text * 3 + text[:-1]]) == [None, None, 0]


def test_odd_texts_are_found_when_identical_and_blank_ones_never() -> None:
    odd = ["🎉🎉", "\0\0", "...", "\ud800", "🚲", "x"]
    assert near_duplicates([]) == []
    assert near_duplicates(["", " \n", "", *odd]) == [None] * 9
    assert near_duplicates(odd + odd) == [None] * 6 + list(range(6))


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_thresholds_outside_the_range_are_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        near_duplicates(["a"], threshold)
    with pytest.raises(InputError, match="list of texts"):
        near_duplicates("one text", 0.5)


def test_another_process_with_another_hash_seed_finds_the_same() -> None:
    code = (
        "from test_similar import sentences, near_duplicates\n"
        "print(near_duplicates([s[:9] for s in sentences(800)], 0.3))"
    )
    outputs = set()
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        run = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
    assert any(c.isdigit() for c in outputs.pop())


def test_twenty_thousand_sentences_take_seconds() -> None:
    texts = sentences(18_000)
    again = random.Random(1).sample(range(18_000), 2_000)
    texts += [texts[i] + " more" for i in again if len(texts[i].split()) > 10]
    start = time.process_time()
    found = near_duplicates(texts)
    assert time.process_time() - start < 20  # 0.7 s where nothing else runs
    assert None not in found[18_000:]
    assert sum(j is not None for j in found[:18_000]) < 20
