"""What the teacher answers, in little memory, and how far another answers from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pcompiler.dynamics.packs import Row
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import score
from pcompiler.runtime.prefix import Prefix

LIKELIEST = 128
LEAST_REST = 1e-9  # probability of all other tokens, which rounding can take below zero


@dataclass(frozen=True)
class Answers:
    """A distribution over the tokens of one answer: the likely ones, and the rest as one.

    Attributes:
        ids: (T, k) its most likely tokens.
        log_p: (T, k + 1) their log-probabilities, and that of all others together.
    """

    ids: torch.Tensor
    log_p: torch.Tensor


def answers_of(model: LanguageModel, prefix: Prefix, rows: Sequence[Row]) -> list[Answers]:
    """What the model says to each row's query after a prefix, over the row's answer."""
    queries, answers = [row.query for row in rows], [row.answer for row in rows]
    return [likeliest(log_p) for log_p in score(model, prefix, queries, answers)]


def likeliest(log_p: torch.Tensor) -> Answers:
    """Of (T, V) log-probabilities."""
    top, ids = log_p.topk(min(LIKELIEST, log_p.shape[-1] - 1), dim=-1)
    return Answers(ids, _with_rest(top))


def kl_from(known: Sequence[Answers], logits: torch.Tensor) -> torch.Tensor:
    """(Σ T, V) logits over all answers → (Σ T,) KL(known ‖ softmax), nats; at most the true one.

    The unlikely tokens count as one, which can only lower it (the log sum inequality).
    """
    log_q = logits.log_softmax(-1)
    ids, log_p = (torch.cat([getattr(a, name) for a in known]) for name in ("ids", "log_p"))
    return (log_p.exp() * (log_p - _with_rest(log_q.gather(-1, ids)))).sum(-1)


def _with_rest(top: torch.Tensor) -> torch.Tensor:
    rest = (1 - top.exp().sum(-1, keepdim=True)).clamp_min(LEAST_REST).log()
    return torch.cat([top, rest], dim=-1)
