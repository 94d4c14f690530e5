"""Attention of one row among those that share a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pcompiler.ops import prefix_attention
from pcompiler.runtime.layers import RoomyLayer, RowLayer
from pcompiler.runtime.prefix import Prefix


@dataclass(frozen=True)
class Attention:
    """One layer's, as it would be called for a row alone, and a kernel that may replace it.

    Attributes:
        module: the layer's, of transformers.
        window: its sliding window, in tokens; none: it has none.
        function: of transformers.
        causal: without a mask, tokens with none before them see those up to their own.
        settings: what it is called with beside tensors: ``scaling`` and more.
    """

    module: Any
    window: int | None
    function: Callable[..., tuple[torch.Tensor, object]]
    causal: bool
    settings: Mapping[str, Any]

    @property
    def layer(self) -> int:
        """Its number, from 0."""
        number: int = self.module.layer_idx
        return number

    def __call__(
        self, q: torch.Tensor, seen: RoomyLayer, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(1, H, t, d) queries, s keys, (1, 1 or H, t, s) mask → (1, t, H, d)."""
        return self.function(self.module, q, seen.keys, seen.values, mask, **self.settings)[0]

    def shows_all(self, new: int, keys: int) -> bool:
        """Whether so many new tokens at the end of all keys see what they should with no mask."""
        inside = self.window is None or keys <= self.window
        return inside and (new == 1 or (self.causal and new == keys))

    def by_kernel(
        self,
        prefix: Prefix,
        q: torch.Tensor,
        seen: RowLayer,
        own_mask: Callable[[], torch.Tensor | None],
    ) -> torch.Tensor | None:
        """The same for a few tokens in one kernel; none: there is none for such a layer or inputs.

        Args:
            prefix: whose keys come first.
            q: (1, H, t, d) queries.
            seen: the layer's keys and values.
            own_mask: makes what is added to the logits of own keys, (t, own) in q's dtype; none:
                all are seen.

        Returns:
            (1, t, H, d).
        """
        if self.window is not None or self.settings.get("softcap") is not None:
            return None
        before, own = seen.parts()
        inputs = (q[0], *before, *own, self.settings["scaling"])
        if prefix_attention.path(*inputs) is None:
            return None
        bias = None if prefix.bias is None else prefix.bias[self.layer, :, : seen.width].to(q.dtype)
        return prefix_attention(*inputs, bias, own_mask()).transpose(0, 1)[None]
