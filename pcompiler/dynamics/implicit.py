"""The weight update that a context amounts to, for each token of a query, exactly.

"Learning without training" (arXiv 2507.16003), theorem 2.2, for blocks with RMSNorm and a gated MLP
(arXiv 2511.17864). With r the residual stream after the attention, z = RMSNorm(r), and C for "with
the context":

    ΔW_gate = W_gate (z_C − z) zᵀ/‖z‖²     ΔW_up = W_up (z_C − z) zᵀ/‖z‖²     Δb_out = r_C − r

Of all ΔW with (W + ΔW) z = W z_C these have the least Frobenius norm. Δb_out is added to the
block's output: for Llama that is a bias of W_down, for Gemma 2 and 3, which normalise what W_down
gives, it is the one place where it is exact. Blocks are solved in order, each on the stream that
the earlier patches made; no context is seen on that side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pcompiler import meter
from pcompiler.dynamics.states import padded, run, watching
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel

_TINY = torch.finfo(torch.float32).tiny
CHUNK_TOKENS = 4096  # of one forward pass: bounds memory when there are thousands of contexts


@dataclass(frozen=True)
class LayerUpdate:
    """One block's update for each of B queries of up to q tokens: 3·d numbers a token.

    A dense ΔW would be 2·d_ff·d numbers a token. Where a query is shorter than q, rows are zero.

    Attributes:
        shift: (B, q, d), z_C − z; W_gate and W_up times this are the left vectors.
        inputs: (B, q, d), z; over its squared norm it is the right vector of both.
        bias: (B, q, d), Δb_out = r_C − r.
    """

    shift: torch.Tensor
    inputs: torch.Tensor
    bias: torch.Tensor

    @property
    def size_bytes(self) -> int:
        """Bytes of the three factors."""
        return sum(t.numel() * t.element_size() for t in (self.shift, self.inputs, self.bias))

    def room_for(self, rows: int) -> LayerUpdate:
        """An unwritten update of more rows, so that chunks are not held twice."""
        one, two, three = (
            t.new_empty((rows, *t.shape[1:])) for t in (self.shift, self.inputs, self.bias)
        )
        return LayerUpdate(one, two, three)

    def write(self, rows: slice, part: LayerUpdate) -> None:
        """Put another update's rows into these."""
        self.shift[rows], self.inputs[rows], self.bias[rows] = part.shift, part.inputs, part.bias

    def right(self) -> torch.Tensor:
        """(B, q, d), z/‖z‖²; zero where z is, as the token then needs no update."""
        return self.inputs / self.inputs.square().sum(-1, keepdim=True).clamp_min(_TINY)

    def left(self, weight: torch.Tensor) -> torch.Tensor:
        """(B, q, d_ff), W (z_C − z), so that ΔW = left ⊗ right."""
        return self.shift.to(weight.dtype) @ weight.T

    def times(self, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """(B, q, d_ff), ΔW x of each token for (B, q, d) ``x``, without ever forming ΔW.

        Raises:
            InputError: ``x`` is of another number of queries or tokens.
        """
        if x.shape != self.shift.shape:
            rows, tokens = self.shift.shape[:2]
            raise InputError(
                f"these updates are for {rows} queries of {tokens} tokens, and the model was given "
                f"{x.shape[0]} of {x.shape[1]}: run exactly the queries that they were made for."
            )
        amount = (self.right() * x).sum(-1, keepdim=True)
        return self.left(weight) * amount.to(weight.dtype)


@meter.timed("exact_updates_seconds")
def exact_updates(
    model: LanguageModel,
    context_ids: Sequence[Sequence[int]],
    query_ids: Sequence[Sequence[int]],
) -> list[LayerUpdate]:
    """The updates of all layers; query b is read after context b, which may be empty.

    Costs one forward pass over contexts and queries, and one over the queries, a chunk at a time.

    Raises:
        InputError: an empty query, or a context and query longer than the model's window.
    """
    rows = [[*c, *q] for c, q in zip(context_ids, query_ids, strict=True)]
    longest = max(map(len, rows), default=0)
    chunk = max(CHUNK_TOKENS // max(longest, 1), 1)
    width = padded(model, query_ids).shape[1]
    whole: list[LayerUpdate] = []
    for start in range(0, len(rows), chunk):
        here = slice(start, start + chunk)
        part = _solve(model, rows[here], query_ids[here], width)
        whole = whole or [update.room_for(len(rows)) for update in part]
        for update, piece in zip(whole, part, strict=True):
            update.write(here, piece)
    meter.count("exact_updates", len(whole) * sum(map(len, query_ids)))
    return whole


@contextmanager
def applied(model: LanguageModel, updates: Sequence[LayerUpdate | None]) -> Iterator[None]:
    """Inside, a forward pass of the queries alone computes what it would after their contexts.

    Give it the (B, q) ids of ``padded(model, query_ids)`` and no cache. Weights are not touched:
    hooks add ΔW x and Δb_out to outputs, and are gone afterwards.
    """

    def add(layer: int) -> tuple[Any, Any]:
        def to_linear(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
            update = updates[layer]
            assert update is not None, "a block is solved before its MLP runs"
            return output + update.times(module.weight, arguments[0])

        def to_block(_module: Any, _arguments: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
            update = updates[layer]
            assert update is not None, "a block is solved before its MLP runs"
            return output + update.bias.to(output.dtype)

        return to_linear, to_block

    with ExitStack() as stack:
        for layer, block in enumerate(model.hf.model.layers):
            to_linear, to_block = add(layer)
            for linear in (block.mlp.gate_proj, block.mlp.up_proj):
                stack.enter_context(linear.register_forward_hook(to_linear))
            stack.enter_context(block.register_forward_hook(to_block))
        yield


def solve_blocks(
    model: LanguageModel,
    ids: torch.Tensor,
    targets: Sequence[tuple[torch.Tensor, torch.Tensor]],
    valid: torch.Tensor,
) -> list[LayerUpdate]:
    """One pass over (B, q) queries alone that solves each block and goes on with it patched.

    Args:
        model: the language model.
        ids: (B, q) queries.
        targets: of each layer r_C and z_C, (B, q, d).
        valid: (B, q, 1) booleans; where false, there is no token and the update is zero.
    """
    updates: list[LayerUpdate | None] = [None] * len(targets)

    def see(layer: int, r: torch.Tensor, z: torch.Tensor) -> None:
        r_context, z_context = targets[layer]
        # float32 at least: in bfloat16 the differences would keep few of their bits.
        shift, bias = (z_context.float() - z.float()), (r_context.float() - r.float())
        updates[layer] = LayerUpdate(shift * valid, z.float() * valid, bias * valid)

    with applied(model, updates), watching(model, see):
        run(model, ids)
    return [u for u in updates if u is not None]


def _solve(
    model: LanguageModel,
    rows: Sequence[Sequence[int]],
    queries: Sequence[Sequence[int]],
    width: int,
) -> list[LayerUpdate]:
    """The updates of one chunk; ``rows`` are contexts with their queries, ``width`` is q."""
    device = model.device.handle
    lengths = torch.tensor([len(q) for q in queries], device=device)[:, None]
    starts = torch.tensor([len(row) for row in rows], device=device)[:, None] - lengths
    offsets = torch.arange(width, device=device)[None]
    valid = offsets < lengths
    columns = starts + torch.where(valid, offsets, torch.zeros_like(offsets))
    batch = torch.arange(len(rows), device=device)[:, None]
    targets: list[tuple[torch.Tensor, torch.Tensor]] = []
    with watching(model, lambda _, r, z: targets.append((r[batch, columns], z[batch, columns]))):
        run(model, padded(model, rows))
    return solve_blocks(model, padded(model, queries, width), targets, valid[..., None])
