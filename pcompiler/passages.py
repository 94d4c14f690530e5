"""What a prompt states, passage by passage: questions about each, and which one a query is about.

Lexical and seeded, no model: it must cover the whole prompt in no time, and be the same each time.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pcompiler.ir import Kind, Prompt

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_EDGES = " \t|#*->{}[],"
_WORD = re.compile(r"\w[\w'’./:+-]*\w|\w")
_LEAST_CHARACTERS = 12
_PHRASE_WORDS = 4
_FORMS = (
    *("How much is {}?", "What is {}?", "What about {}?", "When is {}?", "Where is {}?"),
    *("Can you explain {}?", "Tell me about {}.", "I have a question about {}.", "{}?"),
    *("What do I need to know about {}?", "Is there anything special about {}?"),
    *("How does it work with {}?", "Who handles {}?", "Do you have {}?", "Is it true that {}?"),
)
_CLOZE_SHARE = 0.4  # of the questions: a passage's own words, with one thing asked for
_CLOZE_WORDS = 12
_GAPS = (
    (re.compile(r"\b(?:1\d|20)\d\d\b"), ("which year",)),
    (re.compile(r"[€$£]?\d(?:[\d.,:/-]*\d)?"), ("how many", "how much", "what number")),
    (re.compile(r"(?<=[a-z,] )[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*"), ("who", "what", "which one")),
)
STOP_WORDS = frozenset(
    """
    a about all also an and any are as at be been before but by can could did do does down during
    each for from had has have he her here his how i if in into is it its may more most must my no
    not of on only or other our out over per she should so some such than that the their them then
    there these they this those to under up was we were what when where which who whom whose why
    will with within would you your
    """.split()  # noqa: SIM905 - a list of a hundred words would be a page
)


def passages(prompt: Prompt) -> list[str]:
    """The sentences, rows and list items of what the model sees, in order."""
    found = []
    for segment in prompt.segments:
        if segment.kind is Kind.MARKUP:
            continue
        for line in segment.text.splitlines():
            parts = (part.strip(_EDGES) for part in _SENTENCE_END.split(line))
            found += [part for part in parts if len(part) >= _LEAST_CHARACTERS]
    return found


def questions(about: Sequence[str], count: int, seed: int) -> list[str]:
    """At most ``count`` different questions; each passage has its turn before any has another."""
    pick = random.Random(seed)  # noqa: S311 - not for secrets
    phrases = [_phrases(passage) for passage in about]
    turn = [i for i, found in enumerate(phrases) if found]
    pick.shuffle(turn)
    found: dict[str, None] = {}  # a set that keeps its order
    for _ in range(_rounds(count, len(turn))):
        for i in turn:
            question = _cloze(about[i], pick) if pick.random() < _CLOZE_SHARE else None
            question = question or pick.choice(_FORMS).format(pick.choice(phrases[i]))
            found[question[0].upper() + question[1:]] = None
    return list(found)[:count]


def phrases(about: Sequence[str], seed: int) -> list[str]:
    """A few words of each passage as a question, in shuffled order: none is left out first."""
    pick = random.Random(seed)  # noqa: S311 - not for secrets
    found = [f"{pick.choice(some)}?" for some in map(_phrases, about) if some]
    pick.shuffle(found)
    return found


def _cloze(passage: str, pick: random.Random) -> str | None:
    """Some words of a passage, a number, name or other word asked for; none: it is too short."""
    gaps = [(gap, asked) for pattern, asked in _GAPS for gap in pattern.finditer(passage)]
    content = (word for word in _WORD.finditer(passage) if word[0].lower() not in STOP_WORDS)
    gaps = gaps or [(word, ("what",)) for word in content]
    if not gaps:
        return None
    gap, asked = pick.choice(gaps)
    before, after = passage[: gap.start()].split(), passage[gap.end() :].split()
    if len(before) + len(after) < _PHRASE_WORDS:
        return None
    before = before[-pick.randint(3, _CLOZE_WORDS - 3) :]
    words = [*before, pick.choice(asked), *after[: _CLOZE_WORDS - len(before)]]
    return " ".join(words).strip(_EDGES + " .;:!?") + "?"


def _rounds(count: int, passages: int) -> int:
    return 2 * math.ceil(count / passages) if passages else 0


def _phrases(passage: str) -> list[str]:
    """Runs of words between stop words."""
    runs: list[list[str]] = [[]]
    for word in _WORD.findall(passage):
        if word.lower() in STOP_WORDS or len(runs[-1]) == _PHRASE_WORDS:
            runs.append([])
        if word.lower() not in STOP_WORDS:
            runs[-1].append(word)
    return [phrase for phrase in map(" ".join, runs) if len(phrase) > 3]


class Coverage:
    """Tells which passage a text is about: the one that shares the rarest words with it.

    Args:
        about: the prompt's passages.
    """

    def __init__(self, about: Sequence[str]) -> None:
        self._words = [_content(passage) for passage in about]
        count = Counter(word for words in self._words for word in words)
        self._rarity = {word: math.log(1 + len(about) / n) for word, n in count.items()}

    def passage(self, text: str) -> int | None:
        """The passage's number; none if no word is shared."""
        words = _content(text)
        scores = [sum(self._rarity[w] for w in words & own) for own in self._words]
        best = max(range(len(scores)), key=scores.__getitem__, default=None)
        return best if best is not None and scores[best] > 0 else None

    def uncovered(self, texts: Sequence[str], fitted: Iterable[str]) -> list[int]:
        """Numbers of the texts about a passage that none of the fitted ones is about."""
        covered = {self.passage(text) for text in fitted}
        about = [self.passage(text) for text in texts]
        return [i for i, p in enumerate(about) if p is not None and p not in covered]


def _content(text: str) -> frozenset[str]:
    return frozenset(w.lower() for w in _WORD.findall(text)) - STOP_WORDS
