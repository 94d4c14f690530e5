"""One layer's keys and values while tokens are read: with room to grow, after a prefix or not."""

from __future__ import annotations

from typing import TypeAlias

import torch
from transformers.cache_utils import DynamicLayer

ROOM = 128  # positions allocated ahead, so that the first steps copy nothing

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # keys and values


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A DynamicLayer that writes into spare room, where the original copies itself every step."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self._keys, self._values = keys, values
        self.show(0)
        self.is_initialized = True

    def write(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append (1, H_kv, t, d) keys and values, cast to the cache's dtype on the way."""
        start = self.keys.shape[-2]
        end = start + keys.shape[-2]
        if end > self._keys.shape[-2]:
            self._keys, self._values = _longer(self._keys, end), _longer(self._values, end)
        self._keys[:, :, start:end].copy_(keys)
        self._values[:, :, start:end].copy_(values)
        self.show(end)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *_: object,
        **__: object,
    ) -> Pair:
        """What transformers calls; see ``DynamicLayer.update``."""
        self.write(key_states, value_states)
        return self.keys, self.values

    def show(self, end: int) -> None:
        """Be so many tokens long."""
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]


class RowLayer:
    """A prefix's keys and values, which are lent, and own ones after them.

    A prompt of 4,000 tokens has as many bytes as a third of a small model's weights: they are
    copied only for an attention that wants all in one piece, and then once.

    Args:
        before: (1, H_kv, m, d) of the prefix; never written to.
        room: tokens that are expected after them.

    Attributes:
        width: m.
    """

    def __init__(self, before: Pair, room: int = ROOM) -> None:
        self.width = before[0].shape[2]
        self._room = room
        self._lent: Pair | None = before
        self._layer = _empty(before[0], room)  # own ones, or all of them when none are lent

    @property
    def own(self) -> int:
        """Tokens after the prefix."""
        length: int = self._layer.keys.shape[2]
        return length if self._lent else length - self.width

    def write(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append (1, H_kv, t, d) keys and values."""
        self._layer.write(keys, values)

    def cut(self, own: int) -> None:
        """Keep so many tokens after the prefix."""
        self._layer.show(own if self._lent else self.width + own)

    def parts(self) -> tuple[Pair, Pair]:
        """(H_kv, m, d) keys and values of the prefix, and (H_kv, own, d) ones."""
        all_keys, all_values = self._layer.keys[0], self._layer.values[0]
        if self._lent:
            return (self._lent[0][0], self._lent[1][0]), (all_keys, all_values)
        m = self.width
        return (all_keys[:, :m], all_values[:, :m]), (all_keys[:, m:], all_values[:, m:])

    def whole(self) -> RoomyLayer:
        """All of them in one piece."""
        if self._lent:
            own, self._layer = self._layer, _empty(self._lent[0], self.width + self._room)
            self._layer.write(*self._lent)
            self._layer.write(own.keys, own.values)
            self._lent = None
        return self._layer


def _empty(like: torch.Tensor, room: int) -> RoomyLayer:
    new = like.new_empty((*like.shape[:2], room, like.shape[3]))
    return RoomyLayer(new, torch.empty_like(new))


def _longer(old: torch.Tensor, needed: int) -> torch.Tensor:
    new = old.new_empty((*old.shape[:2], needed + max(ROOM, needed // 2), old.shape[3]))
    new[:, :, : old.shape[2]] = old
    return new
