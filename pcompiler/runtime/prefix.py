"""What stands before the query: keys and values, and the position that queries go on from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import DynamicCache

from pcompiler import progress
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.layers import ROOM, RoomyLayer, RowLayer
from pcompiler.runtime.patch import Patch

GONE = -30_000.0  # β of a key that is not there; a float16, and e to its power is 0
CHUNK_TOKENS = 2048  # of a prefill at a time


@dataclass(frozen=True)
class Prefix:
    """A context as the model remembers it.

    Attributes:
        keys: (L, H_kv, m, d), rotated to their positions; any float dtype.
        values: (L, H_kv, m, d).
        length: n, the logical length: the next token is at position n, whatever m is.
        bias: (L, H_kv, m) β, added to the attention logits of each key; none: zero. A head with
            fewer than m keys is padded at the end, with a β of ``GONE``.
        positions: (L, H_kv, m) of each key, where some layer has a sliding window and m < n.
        patch: the weights' companion patch, in force while this prefix is in place.
    """

    keys: torch.Tensor
    values: torch.Tensor
    length: int
    bias: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    patch: Patch | None = None

    @property
    def kept(self) -> int:
        """m, the tokens that have keys."""
        return self.keys.shape[2]

    @cached_property
    def widths(self) -> list[int]:
        """Of each layer, the keys of the head that has most; the rest is padding."""
        if self.bias is None:
            return [self.kept] * len(self.keys)
        found: list[int] = (self.bias > GONE).sum(-1).amax(-1).tolist()
        return found

    def layers(self, model: LanguageModel, room: int = ROOM) -> list[RowLayer]:
        """What a row starts with, in the model's dtype: this prefix is lent, and never written to.

        Padding that a whole layer has is left out.
        """
        device, found = model.device, []
        for layer, width in enumerate(self.widths):
            both = self.keys[layer, None, :, :width], self.values[layer, None, :, :width]
            keys, values = (t.to(device.handle, device.dtype) for t in both)
            found.append(RowLayer((keys, values), room))
        return found

    @ranged("fill cache")
    def cache(self, model: LanguageModel, room: int = ROOM) -> DynamicCache:
        """A transformers cache that starts with a copy of this prefix; see ``layers``."""
        cache = DynamicCache()
        cache.layers = [layer.whole() for layer in self.layers(model, room)]
        return cache


def nothing(model: LanguageModel) -> Prefix:
    """The prefix of a model that was given no prompt."""
    card = model.card
    shape = (card.layers, card.kv_heads, 0, card.head_dim)
    empty = torch.empty(shape, dtype=model.device.dtype, device=model.device.handle)
    return Prefix(empty, empty, 0)


@ranged("prefill")
def prefill(model: LanguageModel, ids: list[int]) -> Prefix:
    """Run the model over a context once. O(n) projections and O(n²) attention; no logits.

    A long context goes through in chunks, which bounds what the blocks hold at a time.
    """
    card = model.card
    shape = (card.layers, 1, card.kv_heads, len(ids), card.head_dim)  # all layers in one piece
    keys = torch.empty(shape, dtype=model.device.dtype, device=model.device.handle)
    values = torch.empty_like(keys)
    cache = DynamicCache()
    # Full-length layers for every block: sliding windows are left to the attention mask.
    cache.layers = [RoomyLayer(k, v) for k, v in zip(keys, values, strict=True)]
    chunks = [ids[i : i + CHUNK_TOKENS] for i in range(0, len(ids), CHUNK_TOKENS)]
    with torch.no_grad(), progress.layers(model.hf, "prefill", passes=len(chunks)):
        for chunk in chunks:
            model.hf.model(input_ids=model.tensor(chunk), past_key_values=cache, use_cache=True)
    return Prefix(keys[:, 0], values[:, 0], len(ids))
