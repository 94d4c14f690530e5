"""How right an answer is: exact match and F1 over words, as SQuAD defines them, and containment.

Answers are normalised first: lower case, without ASCII punctuation, articles and extra spaces
(the evaluation script of arXiv 1606.05250).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """``"The Normans."`` → ``"normans"``."""
    plain = answer.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(answer: str, gold: str) -> float:
    """1 if they are the same once normalised, else 0."""
    return float(normalize(answer) == normalize(gold))


def contains(answer: str, gold: str) -> float:
    """1 if the words of one are in the other, in a row: a right answer may say more."""
    return float(f" {normalize(gold)} " in f" {normalize(answer)} ")


def f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall over words, 0..1; of two empty answers 1."""
    found, wanted = normalize(answer).split(), normalize(gold).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def scores(answers: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means of all three over all answers; of several right answers the nearest counts.

    Args:
        answers: one for each query.
        gold: of each query the right answers, at least one.
    """

    def of(measure: Callable[[str, str], float]) -> float:
        return mean(max(measure(a, g) for g in right) for a, right in pairs)

    pairs = list(zip(answers, gold, strict=True))
    return {"exact_match": of(exact_match), "contains": of(contains), "f1": of(f1)}
