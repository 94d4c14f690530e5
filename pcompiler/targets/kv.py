"""The prompt's KV cache, exact but for rounding to 16 bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pcompiler.codec.tensors import to_16_bit
from pcompiler.errors import DamageError
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import Prefix
from pcompiler.targets.base import Built, Compilation, Target


class KV(Target):
    """Prefill once, keep keys and values: 4·L·H_kv·d bytes a token (SmolLM2-135M: 23,040)."""

    name = "kv"
    uses_teacher = True

    def build(self, compilation: Compilation) -> Built:
        """One prefill, then a rounding of its keys and values."""
        exact = compilation.teacher
        tensors = {"keys": to_16_bit(exact.keys), "values": to_16_bit(exact.values)}
        return Built(tensors, exact.kept)

    def attach(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Prefix:
        """The stored cache on the model's device; cast to its dtype when a cache is made."""
        try:
            keys, values = tensors["keys"], tensors["values"]
        except KeyError as e:
            raise DamageError(f"the artifact has no tensor {e}.") from None
        card = model.card
        want = (card.layers, card.kv_heads, keys.shape[2] if keys.dim() == 4 else 0, card.head_dim)
        if tuple(keys.shape) != want or keys.shape != values.shape or not keys.is_floating_point():
            raise DamageError(f"the artifact's keys have shape {tuple(keys.shape)}, not {want}.")
        device = model.device.handle
        return Prefix(keys.to(device), values.to(device), length=keys.shape[2])


TARGET = KV()
