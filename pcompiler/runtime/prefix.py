"""What stands before the query: keys and values, and the position that queries go on from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from pcompiler import progress
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.patch import Patch

GONE = -30_000.0  # β of a key that is not there; a float16, and e to its power is 0
CHUNK_TOKENS = 2048  # of a prefill at a time
ROOM = 128  # positions allocated past a prefix, so that the first steps copy nothing


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

    @ranged("fill cache")
    def cache(self, model: LanguageModel, room: int = ROOM) -> DynamicCache:
        """A transformers cache that starts with this prefix, in the model's dtype.

        The prefix itself is never written to: each cache has its own copy. Padding that a whole
        layer has is left out.
        """
        card, device = model.card, model.device
        layers = []
        for keys, values, width in zip(self.keys, self.values, self.widths, strict=True):
            shape = (1, card.kv_heads, width + room, card.head_dim)
            new = torch.empty(shape, dtype=device.dtype, device=device.handle)
            layer = _RoomyLayer(new, torch.empty_like(new))
            layer.write(keys[None, :, :width], values[None, :, :width])
            layers.append(layer)
        cache = DynamicCache()
        cache.layers = layers
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
    cache.layers = [_RoomyLayer(k, v) for k, v in zip(keys, values, strict=True)]
    chunks = [ids[i : i + CHUNK_TOKENS] for i in range(0, len(ids), CHUNK_TOKENS)]
    with torch.no_grad(), progress.layers(model.hf, "prefill", passes=len(chunks)):
        for chunk in chunks:
            model.hf.model(input_ids=model.tensor(chunk), past_key_values=cache, use_cache=True)
    return Prefix(keys[:, 0], values[:, 0], len(ids))


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A DynamicLayer that writes into spare room, where the original copies itself every step."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self._keys, self._values = keys, values
        self._show(0)
        self.is_initialized = True

    def write(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append (1, H_kv, t, d) keys and values, cast to the cache's dtype on the way."""
        start = self.keys.shape[-2]
        end = start + keys.shape[-2]
        if end > self._keys.shape[-2]:
            self._keys, self._values = _longer(self._keys, end), _longer(self._values, end)
        self._keys[:, :, start:end].copy_(keys)
        self._values[:, :, start:end].copy_(values)
        self._show(end)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *_: object,
        **__: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What transformers calls; see ``DynamicLayer.update``."""
        self.write(key_states, value_states)
        return self.keys, self.values

    def _show(self, end: int) -> None:
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]


def _longer(old: torch.Tensor, needed: int) -> torch.Tensor:
    new = old.new_empty((*old.shape[:2], needed + max(ROOM, needed // 2), old.shape[3]))
    new[:, :, : old.shape[2]] = old
    return new
