"""A model whose products are bfloat16 inside: for probes and what is fitted on them.

Of linear layers inputs, weights and outputs are rounded to bfloat16, and products added up in
float32 between; streams, norms, attention and all sums of a fit stay in float32. On processors that
multiply bfloat16 natively a linear layer takes half the time. What an artifact is measured, chosen
and run with is the model itself. As in mixed-precision training (arXiv 1710.03740), less the loss
scaling, which bfloat16 needs no more than inference does.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch.nn.functional import linear

from pcompiler.model import LanguageModel

_twins: WeakKeyDictionary[Any, WeakValueDictionary[bool, Any]] = WeakKeyDictionary()


def mixed(model: LanguageModel, precision: str = "auto", kept: bool = True) -> LanguageModel:
    """The same model with products in bfloat16, or the model itself where that is no gain.

    Args:
        model: its weights are shared; it is not changed.
        precision: auto: if the processor multiplies bfloat16 natively and the model is more
            precise; bfloat16: if the model is more precise; model: never.
        kept: hold rounded weights, half of the model's size, as long as the result lives; else
            round them for each pass: 1 % of a compile.

    Returns:
        A model with the same card and float32 outputs.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and model.device.multiplies_bf16)
    if not wanted or model.device.dtype != torch.float32:
        return model
    twins = _twins.setdefault(model.hf, WeakValueDictionary())
    hf = twins.get(kept)
    if hf is None:
        hf = twins[kept] = _twin(model.hf, kept)
    return replace(model, hf=hf)


def _twin(hf: Any, kept: bool) -> Any:  # noqa: ANN401
    """A copy of the modules around the same tensors, with other linear layers."""
    shared: dict[int, Any] = {id(t): t for t in (*hf.parameters(), *hf.buffers())}
    twin = copy.deepcopy(hf, shared)
    for module in [*twin.modules()]:
        for name, child in module.named_children():
            if type(child) is torch.nn.Linear:
                setattr(module, name, _Product(child, kept))
    return twin


class _Product(torch.nn.Module):
    """A linear layer that is bfloat16 inside; takes and gives what the original does."""

    def __init__(self, original: torch.nn.Linear, kept: bool) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias
        self._low = original.weight.bfloat16() if kept else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        low = self.weight.bfloat16() if self._low is None else self._low
        out = linear(x.bfloat16(), low).to(x.dtype)
        return out if self.bias is None else out + self.bias
