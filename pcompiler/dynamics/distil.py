"""KL distillation from the closed form on: a few steps of gradient descent on patch and cache.

    min mean_i KL(p_teacher(· | i) ‖ p_student(· | i)) + μ mean_{j, l} ‖h_jl − h*_jl‖² / ‖h*_jl‖²

over answer tokens i (arXiv 2409.13697), and all tokens j and blocks l, whose streams h are to be
the teacher's h* (as in arXiv 1909.10351): probes are few, and their answers alone are soon known by
heart. The weights stay as they are; what is trained is what the artifact holds: the patch's factors
and bias, and of a compacted cache β and the values. The teacher's distribution is kept as its most
likely tokens and the mass of the rest, so memory does not grow with the vocabulary.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from pcompiler import progress
from pcompiler.dynamics.answers import kl_from
from pcompiler.dynamics.lessons import Lessons, say
from pcompiler.dynamics.packs import Row
from pcompiler.dynamics.student import ASKING_WEIGHT, SINK_TOKENS
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.packed import packs
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import Prefix

RATE = 0.01  # of Adam, relative to each tensor's root mean square; β: in nats
DIRECTIONS = 64  # of a patch that are moved at that rate: steps of more add up, as √rank
WARM_UP = 0.1  # of the steps: Adam's first ones are of full length in any direction
BATCH_TOKENS = 512
DEVICE_BATCH_TOKENS = 2048  # on an accelerator, where a step of fewer takes as long
STREAM_WEIGHT = 50.0  # μ, in nats
SPREAD = 0.8, 1.25  # of lengths in a batch: little to fill up, and never the same batches


@ranged("refine")
def refine(
    model: LanguageModel,
    teacher: Prefix,
    student: Prefix,
    rows: Sequence[Row],
    steps: int,
    seed: int,
) -> Prefix:
    """The student after so many steps, each on ``BATCH_TOKENS`` or so of the fitting rows.

    Costs three forward passes over a batch for each step. Deterministic for a seed.
    """
    rows = [row for row in rows if not row.validation]
    lessons = Lessons(model, teacher, rows)
    trained, parameters = _parameters(student)
    groups = [{"params": [p], "lr": RATE * scale} for p, scale in parameters]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: _rate(i, steps))
    limit = BATCH_TOKENS if model.device.is_host else DEVICE_BATCH_TOKENS
    batches = _batches(rows, limit, random.Random(seed))  # noqa: S311 - not for secrets
    with progress.bar(steps, "refining", "step") as shown, torch.enable_grad():
        for _ in range(steps):
            batch = next(batches)
            optimiser.zero_grad()
            torch.autograd.backward(_loss(model, trained, rows, lessons, batch))
            optimiser.step()
            rates.step()
            shown.update()
    return _detached(trained)


def _rate(step: int, steps: int) -> float:
    """Share of ``RATE`` at a step: up in a line from near nothing, then down along a cosine."""
    return min(1.0, (step + 1) / (WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(
    model: LanguageModel, student: Prefix, rows: Sequence[Row], lessons: Lessons, batch: list[int]
) -> torch.Tensor:
    """Mean KL over a batch's answer tokens, and how far the streams are from the teacher's."""
    some = [rows[i] for i in batch]
    said = say(model, student, some)
    kl = kl_from([lessons.answers[i] for i in batch], said.logits).mean()
    wanted = [lessons.streams(i) for i in batch]
    return kl + STREAM_WEIGHT * _apart(said.streams, wanted, some, not student.length)


def _apart(
    streams: Sequence[torch.Tensor],
    wanted: Sequence[torch.Tensor],
    rows: Sequence[Row],
    bare: bool,
) -> torch.Tensor:
    """Mean of ‖h − h*‖² / ‖h*‖² over all blocks but the last, tokens weighted as in a fit.

    Of a single block 0: it has none before the last.
    """
    h, target = torch.cat(list(streams)).float(), torch.cat(list(wanted))
    apart = (h - target).square().sum(-1) / target.square().sum(-1)
    weights = torch.cat([_weights(row, bare) for row in rows]).to(h.device)
    return (apart.sum(1) * weights).sum() / (weights.sum() * max(1, apart.shape[1]))


def _weights(row: Row, bare: bool) -> torch.Tensor:
    """(t,) of a row's tokens; with nothing before them, the first are a sink of their own."""
    weights = torch.full((len(row.query) + len(row.answer) - 1,), ASKING_WEIGHT)
    weights[-len(row.answer) :] = 1.0
    if bare:
        weights[: max(0, SINK_TOKENS - (len(row.bare) - len(row.query)))] = 0.0
    return weights


def _parameters(student: Prefix) -> tuple[Prefix, list[tuple[torch.Tensor, float]]]:
    """The student with leaves in place of what is trained, and the leaves with their sizes."""
    leaves: list[tuple[torch.Tensor, float]] = []

    def leaf(t: torch.Tensor, size: float) -> torch.Tensor:
        new = t.detach().float().clone().requires_grad_()
        leaves.append((new, size))
        return new

    deltas = {}
    for layer, delta in (student.patch.deltas if student.patch else {}).items():
        level = delta.levelled()  # descent then moves both factors alike
        each = min(1.0, (DIRECTIONS / max(1, delta.rank)) ** 0.5)
        a, b = (leaf(t, _rms(t) * each) for t in (level.a, level.b))
        deltas[layer] = Delta(a, b, leaf(level.bias, _rms(level.bias)))
    trained = replace(student, patch=Patch(deltas) if deltas else None)
    if student.bias is not None:
        values = leaf(student.values, _rms(student.values))
        trained = replace(trained, values=values, bias=leaf(student.bias, 1.0))
    return trained, leaves


def _rms(t: torch.Tensor) -> float:
    return float(t.float().square().mean().sqrt())


def _detached(trained: Prefix) -> Prefix:
    patch = None
    if trained.patch is not None:
        deltas = trained.patch.deltas.items()
        patch = Patch({i: Delta(d.a.detach(), d.b.detach(), d.bias.detach()) for i, d in deltas})
    bias = None if trained.bias is None else trained.bias.detach()
    return replace(trained, values=trained.values.detach(), bias=bias, patch=patch)


def _batches(rows: Sequence[Row], limit: int, pick: random.Random) -> Iterator[list[int]]:
    """Numbers of rows of about one length, over and over, each time in other batches."""
    lengths = [len(row.query) + len(row.answer) for row in rows]
    while True:
        places = [length * pick.uniform(*SPREAD) for length in lengths]
        order = sorted(range(len(rows)), key=places.__getitem__)
        batches = list(packs([lengths[i] for i in order], limit))
        for batch in pick.sample(batches, len(batches)):
            yield [order[i] for i in batch]
