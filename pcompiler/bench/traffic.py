"""Prompts as a service gets them: few that are asked again and again, and many that come once.

A prompt is a template with a request and a passage in its place, all three real text. What is asked
for is drawn by rank: the r-th most popular prompt comes as often as log(1 + 1/r), which is Zipf's
law (1/r) with a closed form, so that a draw of any number of prompts costs no table. How many
prompts there are to draw from is chosen so that a given share of the draws is distinct.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcompiler.bench import corpora
from pcompiler.errors import InputError

DISTINCT_SHARE = 0.05  # of the draws, by expectation; the other 95 of 100 are repetitions
MAX_PASSAGE, MIN_PASSAGE = 400, 40  # characters
_PART_BYTES = 700  # of the manual, where it has to stand in for role prompts
_EXACT = 20_000  # ranks that are summed one by one; of the rest, an integral
_QUOTED = re.compile(r'"([^"]{8,300})"')
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """What prompts are made of, each different from the others of its kind.

    Attributes:
        source: where they are from.
        templates: each with ``{request}`` once.
        requests: what a user asks.
        passages: what a user asks about.
    """

    source: str
    templates: tuple[str, ...]
    requests: tuple[str, ...]
    passages: tuple[str, ...]

    @property
    def combinations(self) -> int:
        """Prompts that can be made of them."""
        return len(self.templates) * len(self.requests) * len(self.passages)

    def prompt(self, rank: int) -> str:
        """The prompt of this rank, from 0; each rank has its own.

        Popular and rare prompts are of every template: the first ranks are one of each.
        """
        assert 0 <= rank < self.combinations, "a rank that there is"
        turn, template = divmod(rank, len(self.templates))
        variables = len(self.requests) * len(self.passages)
        at = (turn * _stride(variables) + template * 7_919) % variables
        passage, request = divmod(at, len(self.requests))
        text = self.templates[template].replace("{request}", self.requests[request])
        return f"{text}\n\nContext: {self.passages[passage]}"


def texts(data: Path | None) -> Texts:
    """Role prompts and the questions of the data folder; without one, Python's own manual.

    Raises:
        InputError: no such folder, or nothing in it that prompts could be made of.
    """
    found, _ = corpora.load(data, (corpora.PROMPTS, corpora.DOCS))
    by_kind = {corpus.kind: corpus for corpus in found}
    manual = _sentences(_all(by_kind[corpora.DOCS]))
    roles = by_kind.get(corpora.PROMPTS)
    if roles is None or data is None:
        parts = (part for text in _all(by_kind[corpora.DOCS]) for part in _parts(text))
        openings = tuple(dict.fromkeys(f"{part}\n\n{{request}}" for part in parts))
        return _checked(Texts("Python's manual", openings, manual, manual))
    prompts = _all(roles)
    asked = [quoted for text in prompts for quoted in _QUOTED.findall(text)]
    templates = tuple(dict.fromkeys(map(_template, prompts)))
    requests = tuple(dict.fromkeys([*asked, *_questions(data)]))
    passages = dict.fromkeys([*_sentences(_articles(data)), *manual])
    source = f"{roles.source}, questions and articles of the data folder, and Python's manual"
    return _checked(Texts(source, templates, requests, tuple(passages)))


def draws(ranks: int, count: int, seed: int = 0) -> Ranks:
    """(count,) ranks from 0, the r-th (from 1) with probability log(1 + 1/r) / log(ranks + 1)."""
    uniform = np.random.default_rng(seed).random(count)
    drawn = np.floor(np.exp(uniform * math.log(ranks + 1))).astype(np.int64)
    return np.clip(drawn, 1, ranks) - 1


def ranks_for(distinct: float, count: int, most: int) -> int:
    """From how many prompts ``count`` draws are ``distinct`` different ones, by expectation.

    Raises:
        InputError: more than ``most``; the message says how many can be had.
    """
    if not 1 <= distinct <= expected_distinct(most, count):
        raise InputError(
            f"{distinct:,.0f} different prompts of {count:,} were asked for; the texts and Zipf's "
            f"law allow for 1 to {expected_distinct(most, count):,.0f}. Lower --distinct-factor."
        )
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if expected_distinct(middle, count) < distinct:
            low = middle + 1
        else:
            high = middle
    return low


def expected_distinct(ranks: int, count: int) -> float:
    """How many different ranks ``count`` draws have on average."""
    scale = math.log(ranks + 1)

    def drawn(rank: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(-np.expm1(count * np.log1p(-np.log1p(1 / rank) / scale)))

    exact = drawn(np.arange(1.0, min(ranks, _EXACT) + 1)).sum() if ranks > 1 else 1.0
    if ranks <= _EXACT:
        return float(exact)
    grid = np.linspace(math.log(_EXACT + 0.5), math.log(ranks + 0.5), 4_001)
    inner = drawn(np.exp(grid)) * np.exp(grid)
    return float(exact + np.trapezoid(inner, grid))


@dataclass(frozen=True)
class Redundancy:
    """What a stream of prompts has in common, counted.

    Attributes:
        prompts: drawn.
        distinct: different ones among them.
        top_share: of the draws that are of the most popular one in a hundred distinct ones.
        exponent: of Zipf's law, fitted to the counts of the ranks 1 to 1,000.
        from_ranks: prompts that were drawn from.
    """

    prompts: int
    distinct: int
    top_share: float
    exponent: float
    from_ranks: int


def redundancy(drawn: Ranks, from_ranks: int) -> Redundancy:
    """Count."""
    counts = np.sort(np.unique(drawn, return_counts=True)[1])[::-1]
    top = counts[: max(1, len(counts) // 100)].sum() / len(drawn)
    head = counts[: min(1_000, len(counts))].astype(float)
    ranks = np.arange(1, len(head) + 1) + 0.5  # log(1 + 1/r) is near 1 / (r + 1/2)
    slope = np.polyfit(np.log(ranks), np.log(head), 1)[0] if len(head) > 2 else 0.0
    return Redundancy(len(drawn), len(counts), float(top), float(-slope), from_ranks)


def stream(made_of: Texts, drawn: Ranks) -> Iterator[str]:
    """The prompts of these ranks, one by one."""
    for rank in drawn:
        yield made_of.prompt(int(rank))


def _stride(size: int) -> int:
    """A step that visits every one of ``size`` places, far from one to the next."""
    step = int(size * 0.618)
    while math.gcd(step, size) != 1:
        step += 1
    return step


def _template(prompt: str) -> str:
    """A role prompt with its last quotation, which is the user's first request, taken out."""
    clean = prompt.replace("{request}", "")
    quotes = list(_QUOTED.finditer(clean))
    if not quotes:
        return f"{clean}\n\n{{request}}"
    start, end = quotes[-1].span(1)
    return f"{clean[:start]}{{request}}{clean[end:]}"


def _all(corpus: corpora.Corpus) -> list[str]:
    files = sorted((*corpus.training, *corpus.measured), key=lambda file: file.name)
    return [file.data.decode() for file in files]


def _parts(text: str) -> Iterator[str]:
    for piece in corpora.pieces(text.encode(), _PART_BYTES):
        if len(piece) > _PART_BYTES // 2:
            yield piece.decode().replace("{request}", "").strip()


def _sentences(of: Sequence[str]) -> tuple[str, ...]:
    flat = (" ".join(part.split()) for text in of for part in _SENTENCE.split(text))
    return tuple(dict.fromkeys(s for s in flat if MIN_PASSAGE <= len(s) <= MAX_PASSAGE))


def _questions(data: Path) -> Iterator[str]:
    """Of SQuAD and MT-Bench, as far as the folder has them."""
    for row in _rows(data / "squad_dev.jsonl"):
        yield from (asked["question"] for asked in row["qas"])
    for row in _rows(data / "mt_bench_questions.jsonl"):
        yield str(row["turns"][0])


def _articles(data: Path) -> list[str]:
    return [str(row["context"]) for row in _rows(data / "squad_dev.jsonl")]


def _rows(path: Path) -> Iterator[dict[str, list[dict[str, str]]]]:
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _checked(made: Texts) -> Texts:
    if not (made.templates and made.requests and made.passages):
        raise InputError(f"{made.source}: there is nothing to make prompts of.")
    return made
