"""Fitting probes, and packs of them: what a walk goes through the layers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from pcompiler.device import Device
from pcompiler.runtime.packed import packs as group_packs

PACK_TOKENS = 256  # that attend at once: logits over the prefix stay in the cache
DEVICE_PACK_TOKENS = 2048  # the same on an accelerator, where fewer launches count for more
ASKED_WEIGHT = 3.0  # of the user's probes: they are like the queries to come


@dataclass(frozen=True)
class Row:
    """One fitting probe.

    Attributes:
        query: the tokens of its turn, after the prompt.
        bare: the same with no prompt before it: perhaps led by the model's first token.
        answer: the teacher's answer.
        validation: for choosing between fits, not for fitting.
        asked: the user gave it, so it is like the queries to come; self-study may not be.
    """

    query: list[int]
    bare: list[int]
    answer: list[int]
    validation: bool = False
    asked: bool = False


@dataclass(frozen=True)
class Pack:
    """Some probes' tokens end to end: each query and its answer up to the last but one token.

    Attributes:
        rows: the probes.
        tokens: t ids.
        offset: (t,) place within the own probe.
        seen: (t, s) numbers of the tokens that each one sees, as ``Scene.seen``: itself and those
            before it in its own probe.
        twin: (t,) the token's number in the teacher's pack; −1: the teacher has no such token.
        answering: (t,) whether the token after it is one of an answer.
        validation: of validation probes only.
        weight: how much each of its tokens counts in what is fitted.
    """

    rows: tuple[Row, ...]
    tokens: list[int]
    offset: torch.Tensor
    seen: torch.Tensor
    twin: torch.Tensor
    answering: torch.Tensor
    validation: bool
    weight: float

    def to(self, place: torch.device) -> Pack:
        """The same pack with its tensors elsewhere."""
        names = ("offset", "seen", "twin", "answering")
        return replace(self, **{name: getattr(self, name).to(place) for name in names})


def pack_rows(rows: Sequence[Row], bare: bool = False, device: Device | None = None) -> list[Pack]:
    """Packs of as many tokens as suit the device, the same probes whether ``bare`` or not.

    The user's probes and self-study are not mixed, nor fitting and validation.
    """
    limit = PACK_TOKENS if device is None or device.is_host else DEVICE_PACK_TOKENS
    made: list[Pack] = []
    for validation, asked in product((False, True), (True, False)):
        some = [row for row in rows if (row.validation, row.asked) == (validation, asked)]
        groups = group_packs([_length(row) for row in some], limit)
        made += [_pack([some[i] for i in group], bare) for group in groups]
    return made


def _length(row: Row) -> int:
    return len(row.query) + len(row.answer) - 1


def _pack(rows: Sequence[Row], bare: bool) -> Pack:
    tokens: list[int] = []
    offset: list[int] = []
    twin: list[int] = []
    answering: list[bool] = []
    start = 0
    for row in rows:
        own = [*(row.bare if bare else row.query), *row.answer[:-1]]
        lead = len(own) - _length(row)
        tokens += own
        offset += range(len(own))
        twin += [*[-1] * lead, *range(start, start + _length(row))]
        answering += [i >= len(own) - len(row.answer) for i in range(len(own))]
        start += _length(row)
    at = torch.tensor(offset)
    back = torch.arange(int(at.max()) + 1)
    seen = torch.arange(len(at))[:, None] - back
    seen = seen.masked_fill(back > at[:, None], -1).int()
    weight = ASKED_WEIGHT if rows[0].asked else 1.0
    found = torch.tensor(twin), torch.tensor(answering)
    return Pack(tuple(rows), tokens, at, seen, *found, rows[0].validation, weight)
