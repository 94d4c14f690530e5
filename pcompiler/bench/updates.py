"""Exact updates, measured: how fast, how accurate, how large, and how they grow with contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pcompiler import memory
from pcompiler.bench.harness import Samples, Setting
from pcompiler.dynamics.implicit import LayerUpdate, applied, exact_updates
from pcompiler.dynamics.states import norm_before_mlp
from pcompiler.model import LanguageModel

TOKENS = 2048  # whose updates are computed at once
QUERY = 64  # of these, how many are a real query's; the rest repeats it


def one_layer(setting: Setting, model: LanguageModel, ids: Sequence[int], layer: int) -> Samples:
    """Residual streams of TOKENS tokens, with and without context → every factor, W·shift too."""
    block = model.hf.model.layers[layer]
    with torch.no_grad():
        update = exact_updates(model, [ids[:QUERY]], [ids[QUERY : 2 * QUERY]])[layer]
        # The same query again and again: what is timed does not depend on values.
        r = update.inputs.repeat(1, TOKENS // QUERY, 1)
        r_context = r + update.bias.repeat(1, TOKENS // QUERY, 1)
        times = Samples()
        _factors(block, r, r_context)  # warm-up
        for _ in setting.repeat.until_steady(times.wall):
            times.time(setting.device, lambda: _factors(block, r, r_context))
    return times


def errors(model: LanguageModel, context: list[int], query: list[int]) -> tuple[float, float]:
    """Relative error of the query's logits, patched and without context, against in context."""
    updates = exact_updates(model, [context], [query])
    ids = model.tensor(query)
    with torch.no_grad():
        both = model.tensor(context + query)
        want = model.hf(input_ids=both, use_cache=False).logits[0, len(context) :]
        alone = model.hf(input_ids=ids, use_cache=False).logits[0]
        with applied(model, updates):
            patched = model.hf(input_ids=ids, use_cache=False).logits[0]
    return _relative(patched, want), _relative(alone, want)


@dataclass(frozen=True)
class Held:
    """Updates of many contexts, all of them held at once.

    Attributes:
        seconds: to make them.
        factors_bytes: of their tensors.
        grown_bytes: by which the process grew meanwhile, on the host.
    """

    seconds: float
    factors_bytes: int
    grown_bytes: int


def many(
    setting: Setting, model: LanguageModel, ids: Sequence[int], count: int, tokens: int
) -> Held:
    """The updates of all layers for ``count`` contexts.

    Each context is ``tokens`` tokens of the text, the query is the token after it; past the end
    the text begins again.
    """

    def text(start: int, length: int) -> list[int]:
        return [ids[(start + i) % len(ids)] for i in range(length)]

    contexts = [text(i * tokens, tokens) for i in range(count)]
    queries = [text((i + 1) * tokens, 1) for i in range(count)]
    times, kept, before = Samples(), list[LayerUpdate](), memory.used_bytes()
    times.time(setting.device, lambda: kept.extend(exact_updates(model, contexts, queries)))
    grown = memory.used_bytes() - before
    return Held(times.wall[0], sum(update.size_bytes for update in kept), grown)


def _factors(block: Any, r: torch.Tensor, r_context: torch.Tensor) -> None:  # noqa: ANN401
    norm = norm_before_mlp(block)
    z = norm(r)
    update = LayerUpdate(norm(r_context) - z, z, r_context - r)
    update.right()
    for linear in (block.mlp.gate_proj, block.mlp.up_proj):
        update.left(linear.weight)


def _relative(got: torch.Tensor, want: torch.Tensor) -> float:
    wanted = want.cpu().double()  # in this order: MPS has no float64
    return float((got.cpu().double() - wanted).norm() / wanted.norm())
