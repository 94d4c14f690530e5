"""A prefix at work: hooks that add its key biases and its patch to a forward pass, then go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from pcompiler.model import LanguageModel
from pcompiler.runtime.patch import patched
from pcompiler.runtime.prefix import Prefix


@contextmanager
def in_place(model: LanguageModel, prefix: Prefix, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the model attends to the prefix with its biases and computes with its patch.

    Args:
        model: the language model; bit-identical afterwards.
        prefix: whose keys come first in the cache that is run with.
        positions: (t,) of the tokens that are run, for layers with a sliding window.
    """
    with ExitStack() as stack:
        stack.enter_context(patched(model, prefix.patch))
        if prefix.bias is not None:
            for index, layer in enumerate(model.hf.model.layers):
                extra = over_prefix(model, prefix, index, layer.self_attn, positions)
                add = _adding(extra, prefix.kept)
                hook = layer.self_attn.register_forward_pre_hook(add, with_kwargs=True)
                stack.enter_context(hook)
        yield


def window_of(model: LanguageModel, attention: Any) -> int | None:  # noqa: ANN401
    """The sliding window of one layer's attention; Mistral keeps it in the configuration only."""
    if hasattr(attention, "sliding_window"):
        window: int | None = attention.sliding_window
        return window
    everywhere = getattr(model.hf.config, "sliding_window", None)
    return everywhere if model.card.family == "mistral" else None


def has_windows(model: LanguageModel) -> bool:
    """Whether some layer has a sliding window; unknown, and so not, of a model without weights."""
    return model.hf is not None and any(
        window_of(model, layer.self_attn) for layer in model.hf.model.layers
    )


def over_prefix(
    model: LanguageModel,
    prefix: Prefix,
    layer: int,
    attention: Any,  # noqa: ANN401
    positions: torch.Tensor,
) -> torch.Tensor:
    """What a layer's mask gains over the prefix's columns: (H, 1 or t, the layer's width)."""
    assert prefix.bias is not None
    groups = model.card.heads // model.card.kv_heads
    width = prefix.widths[layer]
    bias = prefix.bias[layer, :, :width].to(model.device.dtype)[:, None]
    window = window_of(model, attention)
    if window is not None and prefix.positions is not None:
        gone = prefix.positions[layer, :, None, :width] <= (positions - window)[None, :, None]
        bias = bias.expand(-1, len(positions), -1).masked_fill(gone, torch.finfo(bias.dtype).min)
    return bias.repeat_interleave(groups, dim=0)


def _adding(extra: torch.Tensor, kept: int) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """A hook that adds ``extra`` to a mask of ``kept`` columns before the tokens' own."""

    def add(_module: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401
        return arguments, {**named, "attention_mask": biased(named["attention_mask"], extra, kept)}

    return add


def biased(mask: torch.Tensor, extra: torch.Tensor, kept: int) -> torch.Tensor:
    """A (1, 1, t, kept + own) mask with ``over_prefix`` added: (1, H, t, width + own)."""
    first = mask[..., : extra.shape[-1]] + extra
    rest = mask[..., kept:].expand(1, len(extra), -1, -1)
    # A masked key with a negative β would pass the dtype's end.
    first = first.clamp_min(torch.finfo(mask.dtype).min)
    return torch.cat([first, rest], dim=-1)
