"""KL distillation from the closed form on: a few steps of gradient descent on patch and cache.

    min Σ_i KL(p_teacher(· | i) ‖ p_student(· | i)) over answer tokens i   (arXiv 2409.13697)

The weights stay as they are; what is trained is what the artifact holds: the patch's factors and
bias, and of a compacted cache β and the values. The teacher's distribution is kept as its most
likely tokens and the mass of the rest, so memory does not grow with the vocabulary.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from transformers import DynamicCache

from pcompiler import progress
from pcompiler.dynamics.answers import Answers, answers_of, kl_from
from pcompiler.dynamics.blocks import to_logits
from pcompiler.dynamics.packs import Row
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.packed import PackedRow, packs
from pcompiler.runtime.patch import Delta, Patch, patched
from pcompiler.runtime.prefix import Prefix

RATE = 0.01  # of Adam, relative to each tensor's root mean square; β: in nats
WARM_UP = 0.1  # of the steps: Adam's first ones are of full length in any direction
BATCH_TOKENS = 512
DEVICE_BATCH_TOKENS = 2048  # on an accelerator, where a step of fewer takes as long
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
    known = answers_of(model, teacher, rows)
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
            loss = _loss(model, trained, [rows[i] for i in batch], [known[i] for i in batch])
            torch.autograd.backward(loss)
            optimiser.step()
            rates.step()
            shown.update()
    return _detached(trained)


def _rate(step: int, steps: int) -> float:
    """Share of ``RATE`` at a step: up in a line from near nothing, then down along a cosine."""
    return min(1.0, (step + 1) / (WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(
    model: LanguageModel, student: Prefix, rows: Sequence[Row], known: Sequence[Answers]
) -> torch.Tensor:
    """Mean KL over the answer tokens of a batch, the unlikely tokens taken as one."""
    run = _after_a_cache if student.length else _after_nothing
    return kl_from(known, run(model, student, rows)).mean()


def _after_a_cache(model: LanguageModel, student: Prefix, rows: Sequence[Row]) -> torch.Tensor:
    """(Σ T, V) logits of all answers: one packed row, so that the cache is there once."""
    cache, dtype = DynamicCache(), model.device.dtype
    for layer, width in enumerate(student.widths):
        keys, values = (t[layer, None, :, :width].to(dtype) for t in (student.keys, student.values))
        cache.update(keys, values, layer)
    packed = PackedRow(model, student, len(rows))
    texts = [[*row.query, *row.answer[:-1]] for row in rows]
    return packed.run(texts, range(len(rows)), [len(row.answer) for row in rows], cache)


def _after_nothing(model: LanguageModel, student: Prefix, rows: Sequence[Row]) -> torch.Tensor:
    """The same of a patch alone: texts side by side, filled up behind, where nobody looks."""
    texts = [[*row.bare, *row.answer[:-1]] for row in rows]
    width = max(map(len, texts))
    ids = model.tensor([t for text in texts for t in [*text, *text[-1:] * (width - len(text))]])
    with patched(model, student.patch):
        h = model.hf.model(input_ids=ids.view(len(rows), width), use_cache=False)[0]
    ends = [(len(text) - len(row.answer), len(text)) for text, row in zip(texts, rows, strict=True)]
    return to_logits(model, torch.cat([h[i, a:b] for i, (a, b) in enumerate(ends)]))


def _parameters(student: Prefix) -> tuple[Prefix, list[tuple[torch.Tensor, float]]]:
    """The student with leaves in place of what is trained, and the leaves with their sizes."""
    leaves: list[tuple[torch.Tensor, float]] = []

    def leaf(t: torch.Tensor, size: float | None = None) -> torch.Tensor:
        new = t.detach().float().clone().requires_grad_()
        leaves.append((new, float(t.float().square().mean().sqrt()) if size is None else size))
        return new

    deltas = {}
    for layer, delta in (student.patch.deltas if student.patch else {}).items():
        level = delta.levelled()  # descent then moves both factors alike
        deltas[layer] = Delta(leaf(level.a), leaf(level.b), leaf(level.bias))
    trained = replace(student, patch=Patch(deltas) if deltas else None)
    if student.bias is not None:
        trained = replace(trained, values=leaf(student.values), bias=leaf(student.bias, 1.0))
    return trained, leaves


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
