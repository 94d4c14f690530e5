"""How a context settles: the exact update of one query token after 1, 2, … n tokens of context.

Reading a context token by token is implicit gradient descent (arXiv 2507.16003, section 3):
W_{i+1} = W_i − η ∇_W L_i(W_i) with η = 1/‖z‖². ‖ΔW_{i+1} − ΔW_i‖_F is the size of step i; it falls
as later tokens have less to add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pcompiler.dynamics.implicit import LayerUpdate, solve_blocks
from pcompiler.dynamics.states import watching
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.runtime.masks import for_family
from pcompiler.runtime.prefix import Prefix, prefill

CHUNK = 512  # copies of the query in one forward pass


@dataclass(frozen=True)
class Settling:
    """Frobenius norms of W_gate's and W_up's updates together.

    Attributes:
        sizes: (L, n), ‖ΔW_i‖ after i = 1..n tokens of context.
        steps: (L, n − 1), ‖ΔW_{i+1} − ΔW_i‖.
    """

    sizes: torch.Tensor
    steps: torch.Tensor


def settling(model: LanguageModel, context_ids: Sequence[int], query_id: int) -> Settling:
    """Measure how the update of one query token settles as its context grows.

    Costs one forward pass over the n context tokens and one over n copies of the query, each of
    which sees its own part of the context under a mask; then one over n single tokens.

    Raises:
        InputError: an empty context, or one that leaves the query no place in the window.
    """
    context = list(context_ids)
    if not context or len(context) >= model.window:
        raise InputError(
            f"the context has {len(context)} tokens; give 1 to {model.window - 1}, the model's "
            "window without the query."
        )
    prefix = prefill(model, context)
    sees = torch.arange(1, len(context) + 1)
    parts = [_solve(model, prefix, query_id, chunk) for chunk in torch.split(sees, CHUNK)]
    sizes, steps = [], []
    for block, *layer in zip(model.hf.model.layers, *parts, strict=True):
        weight = torch.cat([block.mlp.gate_proj.weight, block.mlp.up_proj.weight])
        left = torch.cat([u.left(weight)[:, 0] for u in layer]).float()
        right = torch.cat([u.right()[:, 0] for u in layer])
        sizes.append(left.norm(dim=1) * right.norm(dim=1))
        steps.append(_distances(left, right))
    return Settling(torch.stack(sizes).cpu(), torch.stack(steps).cpu())


def _solve(
    model: LanguageModel, prefix: Prefix, query_id: int, sees: torch.Tensor
) -> list[LayerUpdate]:
    """Updates (c, 1, d) of the query after the first ``sees`` (c,) tokens of the prefix."""
    count, before = len(sees), torch.arange(prefix.length)

    def visible(window: int | None) -> torch.Tensor:
        seen = before < sees[:, None]
        if window is not None:
            seen &= before > sees[:, None] - window
        return torch.cat([seen, torch.eye(count, dtype=torch.bool)], dim=1)

    targets: list[tuple[torch.Tensor, torch.Tensor]] = []
    copies = model.tensor([query_id] * count)
    see = watching(model, lambda _, r, z: targets.append((r[0][:, None], z[0][:, None])))
    with see, torch.no_grad():
        model.hf.model(
            input_ids=copies,
            position_ids=sees[None].to(model.device.handle),
            attention_mask=for_family(model, visible),
            past_key_values=prefix.cache(model, count),
            use_cache=True,
        )
    valid = torch.ones(count, 1, 1, dtype=torch.bool, device=model.device.handle)
    return solve_blocks(model, copies.T, targets, valid)


def _distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """‖a_{i+1} b_{i+1}ᵀ − a_i b_iᵀ‖_F of rank-1 terms a (n, p), b (n, d).

    Written as (a' − a) b'ᵀ + a (b' − b)ᵀ, so that what they share cancels before it is squared.
    For a shared right vector, as in the first block, this is ‖a' − a‖·‖b‖.
    """
    da, db = left.diff(dim=0), right.diff(dim=0)
    a, b = left[:-1], right[1:]
    squared = (
        (da.square().sum(1) * b.square().sum(1))
        + (a.square().sum(1) * db.square().sum(1))
        + 2 * (da * a).sum(1) * (b * db).sum(1)
    )
    return squared.clamp_min(0).sqrt()
