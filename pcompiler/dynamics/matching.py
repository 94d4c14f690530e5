"""Attention matching: fewer keys that attend as all of them do (arXiv 2602.16284).

For one layer, over probe tokens i with queries q_i (those of a group's heads pooled):

1. keep the keys that the stream would miss most (``importance.py``);
2. masses w = argmin_{w ≥ 0} Σ_i c_i² (Σ_j w_j e^{s_ij} / M_i − 1)², M_i the mass of all n keys,
   c_i the share of the attention that the context has at token i; β = ln w;
3. values C: what makes the student's attention output the teacher's, by least squares.

The paper fits the values to the exact keys' output at the same query. Here the target is the
teacher's own output, so that C also makes up for what the student's stream lost further down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.functional import pad, threshold

from pcompiler import ops
from pcompiler.attention import LEAST_WEIGHT, log_masses
from pcompiler.device import at_home, on_host
from pcompiler.dynamics.blocks import Block
from pcompiler.dynamics.capture import Before, Teacher, Walker
from pcompiler.dynamics.packs import Pack
from pcompiler.ranges import ranged
from pcompiler.runtime.prefix import GONE
from pcompiler.runtime.together import joint

SAMPLE_TOKENS = 1024  # for the masses; importance and values need every probe
MASS_RIDGE = 1e-3
VALUE_RIDGE = 1e-2
BOUND_STEPS = 8  # after which the largest eigenvalue is known well enough for a step's length
LEAST_MASS = 1e-4
CERTAIN_SHARE = 4  # of a global budget, one in so many keys is certain for each head


def most_important(weights: torch.Tensor, factor: float) -> torch.Tensor:
    """(H_kv, m) positions, in order, of the n/factor keys of each head with the largest weights."""
    kept = max(1, round(weights.shape[-1] / factor))
    return weights.topk(kept, dim=-1).indices.sort(dim=-1).values


def most_important_of_all(weights: torch.Tensor, factor: float) -> list[torch.Tensor]:
    """The same mean number of keys a head, but wherever in (L, H_kv, n) the weights are largest.

    A share of the budget is certain for each head. Returns (H_kv, m) positions for each layer,
    padded with −1.
    """
    each = max(1, round(weights.shape[-1] / factor))
    rank = weights.argsort(dim=-1, descending=True).argsort(dim=-1)
    certain = rank < max(1, each // CERTAIN_SHARE)
    scores = weights.masked_fill(certain, math.inf).flatten()
    picked = torch.zeros_like(scores, dtype=torch.bool)
    picked[scores.topk(each * weights[..., 0].numel()).indices] = True
    return [_ragged(layer) for layer in picked.view_as(weights)]


def keep(context: Before, chosen: torch.Tensor) -> Before:
    """The chosen keys as they are: eviction. Where ``chosen`` is −1, β is ``GONE``."""
    index = chosen.clamp_min(0)
    wide = index[..., None].expand(-1, -1, context.keys.shape[2])
    bias = torch.zeros(chosen.shape, device=chosen.device).masked_fill(chosen < 0, GONE)
    return Before(context.keys.gather(1, wide), context.values.gather(1, wide), index, bias)


def match(walker: Walker, block: Block, teacher: Teacher, context: Before, kept: Before) -> Before:
    """The kept keys with β and values that make them attend as all of them do.

    Args:
        walker: the student, entered into this layer; it has then looked at what is returned.
        block: the layer.
        teacher: after this layer.
        context: all keys.
        kept: some of them; see ``keep``.
    """
    assert kept.bias is not None
    masses = _masses(walker, block, context, kept).masked_fill(kept.bias == GONE, GONE)
    kept = replace(kept, bias=masses)
    walker.look(block, kept)
    change = _change(walker, teacher, kept).to(kept.values)
    walker.shift(change)
    return replace(kept, values=kept.values + change)


@ranged("match masses")
def _masses(walker: Walker, block: Block, context: Before, kept: Before) -> torch.Tensor:
    """(H_kv, m) β by non-negative least squares on a sample of the probes."""
    heads, m, _ = kept.keys.shape
    systems, masses = _systems(kept, 1), torch.ones(heads, m, device=kept.keys.device)
    for i in _sample(walker.packs):
        weight = walker.packs[i].weight
        x = walker.attended(i)
        whole, own = log_masses(x.q, walker.scene(block, i, x, context))
        whole = whole.clamp_min(torch.finfo(whole.dtype).min)  # no key within the window
        share = torch.sigmoid(whole - own)
        logits, _ = walker.scene(block, i, x, kept).logits(x.q)
        rows = (logits - whole[..., None]).exp_() * share[..., None]
        rows = threshold(rows, LEAST_WEIGHT, 0.0).view(heads, -1, m)
        for system in systems:
            system.add(rows, share.view(heads, -1, 1), weight)
    while systems:
        system = systems.pop(0)  # not kept while the next is solved
        ridge = system.steady(MASS_RIDGE)
        found = nonnegative(system.gram, system.rhs[..., 0] + ridge)
        masses[system.heads, : system.size] = found.clamp_min(LEAST_MASS)
    return masses.log()


class _Systems:
    """Least squares of some heads, each with as many unknowns as the one with most.

    Attributes:
        heads: which they are.
        unknowns: (h, 1) of each: the first of its m keys. The rest depend on nothing.
        size: the most of them.
        gram: (h, size, size) Gram matrices.
        rhs: (h, size, w) right-hand sides.
    """

    def __init__(self, heads: slice, unknowns: torch.Tensor, width: int) -> None:
        self.heads, self.unknowns = heads, unknowns[heads, None]
        self.size = int(self.unknowns.max())
        shape = (len(self.unknowns), self.size)
        self.gram = torch.zeros(*shape, self.size, device=unknowns.device)
        self.rhs = torch.zeros(*shape, width, device=unknowns.device)

    def add(self, rows: torch.Tensor, wanted: torch.Tensor, weight: float) -> None:
        """Of all heads (H_kv, t, m) rows and (H_kv, t, w) targets."""
        rows = rows[self.heads, :, : self.size]
        self.gram.baddbmm_(rows.transpose(1, 2), rows, alpha=weight)
        self.rhs.baddbmm_(rows.transpose(1, 2), wanted[self.heads], alpha=weight)

    def steady(self, share: float) -> torch.Tensor:
        """Add a share of its mean to each diagonal; returns (h, 1), what was added."""
        diagonal = self.gram.diagonal(dim1=1, dim2=2)
        ridge = share * (diagonal.sum(1, keepdim=True) / self.unknowns).clamp_min(1e-20)
        diagonal.add_(ridge)
        return ridge


def _systems(kept: Before, width: int) -> list[_Systems]:
    """All heads in one batch, or one by one on the host, where padding costs more than calls.

    A global budget may leave one head of a layer ten times as many keys as another.
    """
    assert kept.bias is not None
    unknowns, heads = (kept.bias != GONE).sum(-1).clamp_min(1), len(kept.keys)
    each = [slice(h, h + 1) for h in range(heads)] if on_host(kept.keys) else [slice(0, heads)]
    return [_Systems(some, unknowns, width) for some in each]


def _nonnegative_together(
    systems: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> list[torch.Tensor]:
    """Systems of several sizes as one batch: what is filled up depends on nothing, and stays 0."""
    most = max(rhs.shape[-1] for _, rhs in systems)
    grams, sides = [], []
    for gram, rhs in systems:
        m = rhs.shape[-1]
        filled = pad(gram, (0, most - m, 0, most - m))
        # Between the least and the greatest eigenvalue, so that neither becomes another.
        filled.diagonal(dim1=1, dim2=2)[:, m:] = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None]
        grams.append(filled)
        sides.append(pad(rhs, (0, most - m)))
    found = nonnegative(torch.cat(grams), torch.cat(sides))
    parts = torch.split(found, [len(rhs) for _, rhs in systems])
    return [part[:, : rhs.shape[-1]] for part, (_, rhs) in zip(parts, systems, strict=True)]


@joint(_nonnegative_together, rank=1)
@ranged("solver nonnegative")
def nonnegative(gram: torch.Tensor, rhs: torch.Tensor, steps: int = 60) -> torch.Tensor:
    """argmin_{w ≥ 0} wᵀGw − 2wᵀr for (b, m, m) G and (b, m) r; see ``ops.nonnegative``.

    From the free solution, cut off at 0, 30 steps come nearer than 300 from ones (SmolLM2, 10×).
    """
    factor = at_home(torch.linalg.cholesky, gram)
    free = at_home(torch.cholesky_solve, rhs[..., None], factor)[..., 0]
    return ops.nonnegative(gram, rhs, free.clamp_min(0), steps, BOUND_STEPS)


@ranged("match values")
def _change(walker: Walker, teacher: Teacher, kept: Before) -> torch.Tensor:
    """(H_kv, m, d_head) by which values are to differ, by ridge regression on what is missing."""
    heads, m, width = kept.values.shape
    systems = _systems(kept, width)
    change = torch.zeros(heads, m, width, device=kept.keys.device)
    for i, pack in enumerate(walker.packs):
        if pack.validation:
            continue
        missing = (teacher.output[i] - walker.output[i]).float()
        missing = missing.view(len(missing), -1, width).transpose(0, 1).reshape(heads, -1, width)
        rows = walker.weights(i).reshape(heads, -1, m)
        for system in systems:
            system.add(rows, missing, pack.weight)
    while systems:
        system = systems.pop(0)  # not kept while the next is solved
        system.steady(VALUE_RIDGE)
        factor = at_home(torch.linalg.cholesky, system.gram)
        found = at_home(torch.cholesky_solve, system.rhs, factor)
        change[system.heads, : system.size] = found
    return change


def _sample(packs: Sequence[Pack]) -> list[int]:
    """Numbers of fitting packs, spread evenly, of about ``SAMPLE_TOKENS``."""
    fitting = [i for i, pack in enumerate(packs) if not pack.validation]
    step = max(1.0, sum(len(packs[i].tokens) for i in fitting) / SAMPLE_TOKENS)
    return [fitting[int(j * step)] for j in range(math.ceil(len(fitting) / step))]


def _ragged(picked: torch.Tensor) -> torch.Tensor:
    """(H_kv, n) booleans → (H_kv, m) positions of the true ones, padded with −1."""
    m = int(picked.sum(-1).max())
    rows = [torch.nonzero(row)[:, 0] for row in picked]
    return torch.stack([pad(row, (0, m - len(row)), value=-1) for row in rows])
