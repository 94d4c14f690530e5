"""Teacher and students on the same probes, one layer at a time, a pack of tokens at a time.

All that is solved comes from sums over packs, and what is computed is computed a pack at a time.
What a walk has to remember of every token is in ``Stream``, which moves to files once it is large:
2d + d_ff + (H + 2·H_kv)·d_head numbers a token for each student, and d + H·d_head for the teacher,
in each layer if it is recorded. So memory does not grow with the number of probes; the disk does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from pcompiler import progress
from pcompiler.attention import Scene, attend
from pcompiler.dynamics.blocks import Attended, Block, embed, rotary
from pcompiler.dynamics.importance import Importance
from pcompiler.dynamics.packs import Pack
from pcompiler.dynamics.stream import Stream
from pcompiler.model import LanguageModel
from pcompiler.ranges import of_layer
from pcompiler.runtime.packed import packs as group_packs
from pcompiler.runtime.prefix import Prefix

# Of a layer: the streams after it and of its attention, importance of its keys in both ways.
Seen: TypeAlias = tuple[Stream, Stream, torch.Tensor, torch.Tensor]
GROUP_TOKENS = 1024  # that linear layers take at once: a third faster than 256


class Walker:
    """One side of the walk: the packs' residual streams, moved through the blocks in order.

    Args:
        model: the language model.
        packs: what is walked with.
        start: position of each probe's first token: the logical length of what stands before it.

    Attributes:
        h: of each pack the stream, (t, d).
        output: of each pack what attention made of it in the layer walked last, (t, H·d_head).
    """

    output: Stream

    def __init__(self, model: LanguageModel, packs: Sequence[Pack], start: int) -> None:
        self.model, self.start = model, start
        self.packs = [pack.to(model.device.handle) for pack in packs]
        self._attended: Stream | None = None
        self._weights: Stream | None = None
        lengths = [len(pack.tokens) for pack in packs]
        some = group_packs(lengths, GROUP_TOKENS)
        self.groups = [slice(group[0], group[-1] + 1) for group in some]
        self.h = self.stream(model.card.hidden)
        for i, pack in enumerate(packs):
            self.h[i] = embed(model, pack.tokens)

    def stream(self, width: int, dtype: torch.dtype | None = None, alike: int = 1) -> Stream:
        """So many numbers for each of the packs' tokens; see ``Stream``."""
        lengths = [len(pack.tokens) for pack in self.packs]
        return Stream(self.model.device, lengths, width, dtype, alike)

    def project(self, block: Block, packs: slice, h: torch.Tensor) -> Attended:
        """Queries, keys and values of some packs, from their stream h (t, d)."""
        at = torch.cat([pack.offset for pack in self.packs[packs]]) + self.start
        return block.project(h, rotary(self.model, block, at))

    def enter(self, block: Block) -> None:
        """Project all packs; ``attended`` reads what was found, as often as it is needed."""
        card = self.model.card
        if self._attended is None:
            width = (card.heads + 2 * card.kv_heads) * card.head_dim
            self._attended = self.stream(width)
        for group in self.groups:
            self._attended[group] = self.project(block, group, self.h[group]).flat()

    def attended(self, i: int) -> Attended:
        """Queries, keys and values of a pack in the block that was entered last."""
        assert self._attended is not None, "enter a block first"
        return Attended.from_flat(
            self._attended[i], self.model.card.heads, self.model.card.kv_heads
        )

    def scene(self, block: Block, i: int, x: Attended, before: Before) -> Scene:
        """What a pack's queries meet: what stands before it, and itself."""
        seen, bias = self.packs[i].seen, before.bias
        bias = None if bias is None else bias.float()[:, None]
        if block.window is not None:
            at = self.packs[i].offset + self.start
            gone = before.positions[:, None] <= (at - block.window)[:, None]
            bias = gone.new_zeros((), dtype=torch.float32) if bias is None else bias
            bias = bias.masked_fill(gone, -math.inf)
            seen = seen[:, : block.window]
        both = before.keys, before.values, x.k, x.v
        return Scene(*both, seen, block.scaling, bias, block.softcap)

    def look(self, block: Block, before: Before) -> None:
        """Let all packs attend in the block that was entered last, into ``output``.

        What they attend to is remembered: with other values there, see ``shift``.
        """
        card = self.model.card
        self.output = self.stream(card.heads * card.head_dim)
        self._weights = self.stream(card.heads * before.keys.shape[1], torch.float32)
        for i in range(len(self.packs)):
            x = self.attended(i)
            attention = attend(x.q, self.scene(block, i, x, before))
            self.output[i] = joined(attention[0])
            self._weights[i] = attention[1].reshape(x.q.shape[1], card.heads * before.keys.shape[1])

    def weights(self, i: int) -> torch.Tensor:
        """(H, t, m) of a pack on the keys before it, where it looked last."""
        assert self._weights is not None, "look first"
        kept, heads = self._weights[i], self.model.card.heads
        return kept.view(heads, len(kept), kept.shape[1] // heads)

    def shift(self, change: torch.Tensor) -> None:
        """Make ``output`` what it is where values differ by (H_kv, m, d_head) ``change``."""
        for i in range(len(self.packs)):
            weights = self.weights(i)
            folded = weights.reshape(len(change), -1, weights.shape[2])
            more = (folded @ change.float()).view(*weights.shape[:2], -1)
            self.output[i] = self.output[i] + joined(more)


def joined(output: torch.Tensor) -> torch.Tensor:
    """(H, t, d_head) → (t, H·d_head), W_o's input."""
    return output.transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class Before:
    """What stands before the packs in one layer.

    Attributes:
        keys: (H_kv, m, d_head).
        values: (H_kv, m, d_head).
        positions: (H_kv, m) of the keys.
        bias: (H_kv, m), β; none: zero.
    """

    keys: torch.Tensor
    values: torch.Tensor
    positions: torch.Tensor
    bias: torch.Tensor | None = None


class Teacher(Walker):
    """The model with the full prompt.

    Attributes:
        h: of each pack the stream after the layer that was walked last, (t, d).
        importance: (H_kv, n), in the layer that was walked last, over the fitting packs; see
            ``Importance``.
        attention: (H_kv, n), likewise, by attention weights alone.
    """

    importance: torch.Tensor
    attention: torch.Tensor

    def __init__(self, model: LanguageModel, prefix: Prefix, packs: Sequence[Pack]) -> None:
        super().__init__(model, packs, prefix.length)
        self._prefix = prefix
        self._positions = torch.arange(prefix.length, device=model.device.handle)
        self._alike = 1  # streams of each kind that are kept
        self._recorded: deque[Seen] = deque()

    def record(self, depth: int | None = None) -> torch.Tensor:
        """Walk through all layers now, or the first few; ``advance`` then reads what was seen.

        Streams go to files once they are large. Returns the importance of all keys (L, H_kv, n),
        which a budget for all layers together needs before the first is compacted.
        """
        layers = range(depth or self.model.card.layers)
        self._alike, recorded = len(layers), list[Seen]()
        with torch.no_grad(), progress.bar(len(layers), "teacher", "layer") as shown:
            for layer in layers:
                with of_layer("teacher", layer, self.model.card.layers):
                    self.advance(Block(self.model, layer), layer)
                for stream in recorded[-1][:2] if recorded else ():
                    stream.rest()
                recorded.append((self.h, self.output, self.importance, self.attention))
                shown.update()
        self._recorded.extend(recorded)
        return torch.stack([importance for _, _, importance, _ in recorded])

    def context(self, layer: int) -> Before:
        """The prompt's keys and values in a layer, in the model's dtype."""
        dtype = self.model.device.dtype
        keys, values = self._prefix.keys[layer].to(dtype), self._prefix.values[layer].to(dtype)
        return Before(keys, values, self._positions.expand(len(keys), -1))

    def advance(self, block: Block, layer: int) -> None:
        """Walk all packs through one block."""
        if self._recorded:  # of each layer once: what is behind is let go
            self.h, self.output, self.importance, self.attention = self._recorded.popleft()
            return
        card = self.model.card
        entered, self.h = self.h, self.stream(card.hidden, alike=self._alike)
        self.output = self.stream(card.heads * card.head_dim, alike=self._alike)
        before = self.context(layer)
        importance = Importance(block, before.values, card.heads)
        for group in self.groups:
            h = entered[group]
            x = self.project(block, group, h)
            self.output[group] = torch.cat(list(self._attend(block, group, x, before, importance)))
            attended = block.project_out(self.output[group])
            r = block.mix(h, attended)
            self.h[group] = block.after(r)
            importance.moved(attended, h, r, self._counts(group).to(h.device))
        self.importance, self.attention = importance.result(), importance.attention()

    def _counts(self, group: slice) -> torch.Tensor:
        """(t,) how much each token counts for the importance."""
        packs = self.packs[group]
        each = torch.tensor([0.0 if pack.validation else pack.weight for pack in packs])
        return each.repeat_interleave(torch.tensor([len(pack.tokens) for pack in packs]))

    def _attend(
        self, block: Block, group: slice, x: Attended, before: Before, importance: Importance
    ) -> Iterator[torch.Tensor]:
        """W_o's input of each pack in a group; its attention counts for the importance."""
        lengths = [len(pack.tokens) for pack in self.packs[group]]
        each = zip(*(torch.split(t, lengths, dim=1) for t in (x.q, x.k, x.v)), strict=True)
        for i, own in enumerate(each, start=group.start):
            scene = self.scene(block, i, Attended(*own), before)
            output, weights = attend(own[0], scene)
            if not self.packs[i].validation:
                importance.seen(weights, output, self.packs[i].weight)
            yield joined(output)
