"""Generating and scoring: one decoding loop for a single stream and for many probes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from pcompiler.model import LanguageModel
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import Prefix

PACK_TOKENS = 640  # tokens in one packed forward pass: long enough to be compute-bound

Picker = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Step:
    """One decoding step: for each row still going, its next token and the logits behind it.

    Attributes:
        rows: numbers of the rows.
        tokens: one token for each.
        logits: (rows, vocabulary), float32.
    """

    rows: list[int]
    tokens: list[int]
    logits: torch.Tensor


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """(r, V) logits → (r,) most likely tokens."""
    return logits.argmax(dim=-1)


def sampler(temperature: float, top_p: float, seed: int) -> Picker:
    """Nucleus sampling (arXiv 1904.09751) with its own seeded generator."""
    generator = torch.Generator().manual_seed(seed)

    def pick(logits: torch.Tensor) -> torch.Tensor:
        p, order = (logits.cpu() / temperature).softmax(-1).sort(dim=-1, descending=True)
        p = p.masked_fill(p.cumsum(-1) - p >= top_p, 0.0)
        return order.gather(-1, torch.multinomial(p, 1, generator=generator))[:, 0]

    return pick


def steps(
    model: LanguageModel,
    prefix: Prefix,
    queries: Sequence[Sequence[int]],
    max_tokens: int,
    pick: Picker = greedy,
) -> Iterator[Step]:
    """Decode all queries side by side after one prefix; a row ends after a stop token.

    Args:
        model: the language model.
        prefix: what stands before every query.
        queries: token ids of each query.
        max_tokens: answer length at most.
        pick: logits → tokens.
    """
    room = sum(map(len, queries)) + len(queries) * max_tokens
    packed = PackedRow(model, prefix, len(queries), room)
    rows = list(range(len(queries)))
    logits = packed.extend(queries, rows, [1] * len(rows))
    for count in range(1, max_tokens + 1):
        tokens = pick(logits).tolist()
        yield Step(rows, tokens, logits)
        going = [(r, t) for r, t in zip(rows, tokens, strict=True) if t not in model.stop_ids]
        if not going or count == max_tokens:
            return
        rows = [r for r, _ in going]
        logits = packed.extend([[t] for _, t in going], rows, [1] * len(rows))


def first_token(model: LanguageModel, prefix: Prefix, query: Sequence[int]) -> int:
    """The first answer token: what time to first token waits for."""
    return next(steps(model, prefix, [query], 1)).tokens[0]


def score(
    model: LanguageModel,
    prefix: Prefix,
    queries: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
) -> Iterator[torch.Tensor]:
    """Log-probabilities over each answer's positions: one (T_i, V) tensor a query, in order."""
    for pack in _packs([len(q) + len(a) for q, a in zip(queries, answers, strict=True)]):
        texts = [[*queries[i], *answers[i][:-1]] for i in pack]
        counts = [len(answers[i]) for i in pack]
        room = sum(map(len, texts))
        row = PackedRow(model, prefix, len(pack), room)
        logits = row.extend(texts, list(range(len(pack))), counts)
        yield from torch.split(logits.log_softmax(-1), counts)


def _packs(lengths: Sequence[int]) -> Iterator[list[int]]:
    pack: list[int] = []
    size = 0
    for i, length in enumerate(lengths):
        if pack and size + length > PACK_TOKENS:
            yield pack
            pack, size = [], 0
        pack.append(i)
        size += length
    if pack:
        yield pack
