"""Attention masks of our own, in the form that each model family takes them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pcompiler.families import MASK_BY_LAYER_TYPE
from pcompiler.model import LanguageModel


def for_family(
    model: LanguageModel, visible: Callable[[int | None], torch.Tensor]
) -> torch.Tensor | dict[str, torch.Tensor]:
    """One additive mask, or one for each layer type.

    Args:
        model: the language model.
        visible: sliding window or none → (new, old + new) booleans: which keys a query sees.

    Returns:
        (1, 1, new, old + new) in the model's dtype and place, or a dictionary of such.
    """
    config = model.hf.config
    window = getattr(config, "sliding_window", None)
    if model.card.family not in MASK_BY_LAYER_TYPE:
        return additive(model, visible(window))[None, None]
    kinds = {"full_attention", *(getattr(config, "layer_types", None) or ())}
    return {
        kind: additive(model, visible(None if kind == "full_attention" else window))[None, None]
        for kind in kinds
    }


def additive(model: LanguageModel, visible: torch.Tensor) -> torch.Tensor:
    """Booleans → as many numbers in the model's dtype and place, the least where one is false."""
    dtype = model.device.dtype
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min).to(model.device.handle)


def causal(model: LanguageModel, new: int, own: int) -> torch.Tensor:
    """(new, own), additive: the last of a text's tokens, each of which sees those up to itself."""
    ones = torch.ones(new, own, dtype=torch.bool, device=model.device.handle)
    return additive(model, ones.tril(own - new))
