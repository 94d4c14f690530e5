"""Generating and scoring: one decoding loop for a single stream and for many probes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from pcompiler import progress
from pcompiler.model import LanguageModel
from pcompiler.ranges import named
from pcompiler.runtime.packed import PackedRow, packs
from pcompiler.runtime.prefix import Prefix

# A packed row's mask is quadratic in its tokens, so a row is bounded and there are several.
PACK_TOKENS = 640  # scored in one forward pass: long enough to be compute-bound
DECODE_TOKENS = 4096  # decoded side by side, answers included: each step reads the prefix once
DEVICE_TIMES = 4  # as many on an accelerator, where a step takes what its launches take
NUCLEUS = 4096  # most nuclei are smaller, and looking for so many costs a tenth of sorting all

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
    """Nucleus sampling (arXiv 1904.09751) with its own seeded generator.

    The host draws a number for each token that may be in the nucleus, as ``torch.multinomial``
    does there: the same tokens on every device, to the rounding of their probabilities.
    """
    generator = torch.Generator().manual_seed(seed)

    def races(rows: int, tokens: int) -> torch.Tensor:
        return torch.empty(rows, tokens).exponential_(1, generator=generator)

    def pick(logits: torch.Tensor) -> torch.Tensor:
        p, order = _nucleus((logits / temperature).softmax(-1), top_p)
        rows, tokens = p.shape
        drawn = races(rows, min(NUCLEUS, tokens))
        if tokens > NUCLEUS:
            drawn = torch.cat([drawn, races(rows, tokens - NUCLEUS)], dim=1)
        fastest = (p / drawn.to(p.device)).argmax(-1, keepdim=True)
        return order.gather(-1, fastest)[:, 0]

    return pick


def _nucleus(p: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities in descending order, 0 outside the nucleus, and whose they are."""
    best, order = p.topk(min(NUCLEUS, p.shape[-1]), dim=-1)
    if best.shape != p.shape and bool((best.sum(-1) < top_p).any()):
        best, order = p.sort(dim=-1, descending=True)
    return best.masked_fill(best.cumsum(-1) - best >= top_p, 0.0), order


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
    with named("read queries"):
        logits = packed.extend(queries, rows, [1] * len(rows))
    for count in range(1, max_tokens + 1):
        tokens = pick(logits).tolist()
        yield Step(rows, tokens, logits)
        going = [(r, t) for r, t in zip(rows, tokens, strict=True) if t not in model.stop_ids]
        if not going or count == max_tokens:
            return
        rows = [r for r, _ in going]
        with named("decoding step"):
            logits = packed.extend([[t] for _, t in going], rows, [1] * len(rows))


@dataclass
class Answer:
    """One query's answer.

    Attributes:
        tokens: its tokens, the stop token included.
        log_p: (T, V) log-probabilities behind them, float32; only if they were asked for.
    """

    tokens: list[int] = field(default_factory=list)
    log_p: torch.Tensor | None = None


def answer_all(
    model: LanguageModel,
    prefix: Prefix,
    queries: Sequence[Sequence[int]],
    max_tokens: int,
    label: str,
    pick: Picker = greedy,
    keep_log_p: bool = False,
) -> list[Answer]:
    """Answer any number of queries, as many side by side as ``DECODE_TOKENS`` allows.

    Args:
        model: the language model.
        prefix: what stands before every query.
        queries: token ids of each query.
        max_tokens: answer length at most.
        label: of the progress bar.
        pick: logits → tokens.
        keep_log_p: keep 4·T·V bytes an answer.
    """
    answers = [Answer() for _ in queries]
    limit = DECODE_TOKENS * (1 if model.device.is_host else DEVICE_TIMES)
    groups = list(packs([len(q) + max_tokens for q in queries], limit))
    with progress.bar(len(groups) * max_tokens, label, "token") as shown:
        for pack in groups:
            rows: list[list[torch.Tensor]] = [[] for _ in pack]
            for step in steps(model, prefix, [queries[i] for i in pack], max_tokens, pick):
                for row, token, logits in zip(step.rows, step.tokens, step.logits, strict=True):
                    answers[pack[row]].tokens.append(token)
                    if keep_log_p:
                        rows[row].append(logits.log_softmax(-1))
                shown.update()
            if keep_log_p:
                for i, kept in zip(pack, rows, strict=True):
                    answers[i].log_p = torch.stack(kept)
    return answers


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
    lengths = [len(q) + len(a) for q, a in zip(queries, answers, strict=True)]
    for pack in packs(lengths, PACK_TOKENS):
        texts = [[*queries[i], *answers[i][:-1]] for i in pack]
        counts = [len(answers[i]) for i in pack]
        room = sum(map(len, texts))
        row = PackedRow(model, prefix, len(pack), room)
        with named("score"):
            logits = row.extend(texts, list(range(len(pack))), counts)
        yield from torch.split(logits.log_softmax(-1), counts)
