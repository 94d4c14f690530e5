"""Attention of a packed row by a table: the prefix is shared, and own tokens are few.

In place of the model's attention, whose mask would have every token multiplied with those of all
other continuations, and which copies a group's keys for each of its heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence

from pcompiler.attention import Scene, attend
from pcompiler.device import on_host
from pcompiler.model import LanguageModel
from pcompiler.runtime.in_place import over_prefix
from pcompiler.runtime.layers import RowLayer
from pcompiler.runtime.prefix import Prefix
from pcompiler.runtime.row_attention import Attention

MOST_NUMBERS = 2**22  # of one kind at once: they stay in the processor's cache
DEVICE_NUMBERS = 2**25  # on an accelerator, which wants more at once


@dataclass(frozen=True)
class Reading:
    """What some tokens see that are read in one forward pass.

    Attributes:
        model: which reads.
        prefix: what all continuations share.
        positions: (t,) of the tokens.
        seen: (t, s) numbers of the tokens after the prefix that each one sees: ``Scene.seen``.
    """

    model: LanguageModel
    prefix: Prefix
    positions: torch.Tensor
    seen: torch.Tensor

    def scene(self, alone: Attention, layer: RowLayer) -> Scene:
        """What the tokens' queries meet in a layer."""
        seen, settings = self.seen, alone.settings
        if alone.window is not None:
            seen = seen[:, : alone.window]
        before, own = layer.parts()
        bias = self._bias(alone, layer.width)
        return Scene(*before, *own, seen, settings["scaling"], bias, settings.get("softcap"))

    def _bias(self, alone: Attention, width: int) -> torch.Tensor | None:
        """(1 or H; 1 or t; width), what a layer adds to logits over the prefix."""
        if self.prefix.bias is not None:
            at = (alone.layer, alone.module, self.positions)
            return over_prefix(self.model, self.prefix, *at)
        if (window := alone.window) is None:
            return None
        assert width == self.prefix.length, "a window needs every position"
        place = self.model.device
        keys = torch.arange(width, device=place.handle)
        gone = keys <= (self.positions - window)[:, None]
        zero = torch.zeros(gone.shape, dtype=place.dtype, device=place.handle)
        return zero.masked_fill_(gone, -torch.inf)[None]


def attend_in_parts(q: torch.Tensor, scene: Scene) -> torch.Tensor:
    """(H, t, d) queries → (t, H, d), some tokens at a time."""
    each = len(q) * scene.keys.shape[1]  # logits over the prefix, of one token
    if on_host(q):
        most = MOST_NUMBERS
    else:  # and the own keys that are gathered for it
        most, each = DEVICE_NUMBERS, max(each, len(scene.keys) * scene.seen.shape[1] * q.shape[2])
    together = max(1, most // max(1, each))
    parts = []
    for start in range(0, q.shape[1], together):
        some, bias = slice(start, start + together), scene.bias
        if bias is not None and bias.shape[1] > 1:
            bias = bias[:, some]
        here = replace(scene, seen=scene.seen[some], bias=bias)
        parts.append(attend(q[:, some], here)[0].transpose(0, 1).to(q.dtype))
    return torch.cat(parts)


def table(places: Sequence[Sequence[int]], new: Sequence[int]) -> torch.Tensor:
    """The table of what is seen.

    Args:
        places: of some continuations, the numbers of all their tokens, in order.
        new: how many of them are read now, and have a row: the last ones.

    Returns:
        (Σ new, longest) int32; see ``Scene.seen``.
    """
    every = pad_sequence([torch.tensor(own, dtype=torch.int32) for own in places], batch_first=True)
    counts = torch.tensor(new)
    row = torch.repeat_interleave(counts)
    first = torch.tensor([len(own) for own in places]) - counts
    at = torch.cat([torch.arange(n) for n in new]) + first[row]
    back = at[:, None] - torch.arange(every.shape[1])
    return every[row[:, None], back.clamp_min(0)].masked_fill_(back < 0, -1)
