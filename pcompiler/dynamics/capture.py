"""Teacher and students on the same probes, one layer at a time, a pack of tokens at a time.

All that is solved comes from sums over packs, and what is computed is computed a pack at a time.
What a walk has to remember of every token is in ``Stream``, which moves to files once it is large:
2d + d_ff + (H + 2·H_kv)·d_head numbers a token for each student, and d + H·d_head for the teacher,
in each layer if it is recorded. So memory does not grow with the number of probes; the disk does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch.nn.functional import threshold

from pcompiler import progress
from pcompiler.device import Device
from pcompiler.dynamics.blocks import Attended, Block, embed, rotary
from pcompiler.dynamics.importance import Importance
from pcompiler.dynamics.stream import Stream
from pcompiler.model import LanguageModel
from pcompiler.ranges import of_layer
from pcompiler.runtime.packed import packs
from pcompiler.runtime.prefix import Prefix

PACK_TOKENS = 256  # at once: enough to be compute-bound; logits over the prefix stay in the cache
DEVICE_PACK_TOKENS = 2048  # the same on an accelerator, where fewer launches count for more
ASKED_WEIGHT = 3.0  # of the user's probes: they are like the queries to come
LEAST_WEIGHT = 1e-12  # of attention: denormals multiply 30 times slower, and are as good as zero


@dataclass(frozen=True)
class Row:
    """One fitting probe.

    Attributes:
        query: the tokens of its turn, after the prompt.
        bare: the same with no prompt before it: perhaps led by the model's first token.
        answer: the teacher's answer.
        validation: for choosing between fits, not for fitting.
        asked: the user gave it, so it is like the queries to come; self-study may not be.
    """

    query: list[int]
    bare: list[int]
    answer: list[int]
    validation: bool = False
    asked: bool = False


@dataclass(frozen=True)
class Pack:
    """Some probes' tokens end to end: each query and its answer up to the last but one token.

    Attributes:
        tokens: t ids.
        offset: (t,) place within the own probe.
        hidden: (t, t): which token does not see which; it sees its own probe up to itself.
        twin: (t,) the token's number in the teacher's pack; −1: the teacher has no such token.
        validation: of validation probes only.
        weight: how much each of its tokens counts in what is fitted.
    """

    tokens: list[int]
    offset: torch.Tensor
    hidden: torch.Tensor
    twin: torch.Tensor
    validation: bool
    weight: float

    def to(self, place: torch.device) -> Pack:
        """The same pack with its tensors elsewhere."""
        offset, hidden, twin = (t.to(place) for t in (self.offset, self.hidden, self.twin))
        return replace(self, offset=offset, hidden=hidden, twin=twin)


def pack_rows(rows: Sequence[Row], bare: bool = False, device: Device | None = None) -> list[Pack]:
    """Packs of as many tokens as suit the device, the same probes whether ``bare`` or not.

    The user's probes and self-study are not mixed, nor fitting and validation.
    """
    limit = PACK_TOKENS if device is None or device.is_host else DEVICE_PACK_TOKENS
    made: list[Pack] = []
    for validation, asked in product((False, True), (True, False)):
        some = [row for row in rows if (row.validation, row.asked) == (validation, asked)]
        groups = packs([_length(row) for row in some], limit)
        made += [_pack([some[i] for i in group], bare) for group in groups]
    return made


def _length(row: Row) -> int:
    return len(row.query) + len(row.answer) - 1


def _pack(rows: Sequence[Row], bare: bool) -> Pack:
    tokens: list[int] = []
    owner: list[int] = []
    offset: list[int] = []
    twin: list[int] = []
    start = 0
    for number, row in enumerate(rows):
        own = [*(row.bare if bare else row.query), *row.answer[:-1]]
        lead = len(own) - _length(row)
        tokens += own
        owner += [number] * len(own)
        offset += range(len(own))
        twin += [*[-1] * lead, *range(start, start + _length(row))]
        start += _length(row)
    of, at = torch.tensor(owner), torch.tensor(offset)
    visible = (of[:, None] == of) & (at <= at[:, None])
    weight = ASKED_WEIGHT if rows[0].asked else 1.0
    return Pack(tokens, at, ~visible, torch.tensor(twin), rows[0].validation, weight)


class Walker:
    """One side of the walk: the packs' residual streams, moved through the blocks in order.

    Args:
        model: the language model.
        packs: what is walked with.
        start: position of each probe's first token: the logical length of what stands before it.
    """

    def __init__(self, model: LanguageModel, packs: Sequence[Pack], start: int) -> None:
        self.model, self.start = model, start
        self.packs = [pack.to(model.device.handle) for pack in packs]
        self._attended: Stream | None = None
        self.h = self.stream(model.card.hidden)
        for i, pack in enumerate(packs):
            self.h[i] = embed(model, pack.tokens)

    def stream(self, width: int) -> Stream:
        """So many numbers for each of the packs' tokens."""
        return Stream(self.model.device, [len(pack.tokens) for pack in self.packs], width)

    def project(self, block: Block, i: int, h: torch.Tensor) -> Attended:
        """Queries, keys and values of a pack, from its stream h (t, d)."""
        at = self.packs[i].offset + self.start
        return block.project(h, rotary(self.model, block, at))

    def enter(self, block: Block) -> None:
        """Project all packs; ``attended`` reads what was found, as often as it is needed."""
        card = self.model.card
        if self._attended is None:
            width = (card.heads + 2 * card.kv_heads) * card.head_dim
            self._attended = self.stream(width)
        for i in range(len(self.packs)):
            self._attended[i] = self.project(block, i, self.h[i]).flat()

    def attended(self, i: int) -> Attended:
        """Queries, keys and values of a pack in the block that was entered last."""
        assert self._attended is not None, "enter a block first"
        return Attended.from_flat(
            self._attended[i], self.model.card.heads, self.model.card.kv_heads
        )

    def logits(self, block: Block, i: int, x: Attended, before: Before) -> torch.Tensor:
        """(H, t, m) attention logits of a pack against what stands before it, β included."""
        logits = block.logits(x.q, before.keys)
        if before.bias is not None:
            groups = len(x.q) // len(before.bias)
            logits += before.bias.to(logits).repeat_interleave(groups, dim=0)[:, None]
        if block.window is not None:
            gone = before.positions[:, None] <= self._reach(block, i)
            logits.masked_fill_(gone.repeat_interleave(len(logits) // len(gone), dim=0), -math.inf)
        return logits

    def own_logits(self, block: Block, i: int, x: Attended) -> torch.Tensor:
        """(H, t, t) attention logits within a pack, −∞ where a token does not see another."""
        hidden = self.packs[i].hidden
        if block.window is not None:
            hidden = hidden | (self.packs[i].offset + self.start <= self._reach(block, i))
        return block.logits(x.q, x.k).masked_fill_(hidden, -math.inf)

    def attend(self, block: Block, i: int, x: Attended, before: Before) -> Attention:
        """Attention of a pack to what stands before it and to itself, in float32."""
        both = torch.cat([self.logits(block, i, x, before), self.own_logits(block, i, x)], dim=-1)
        weights = threshold(both.softmax(-1), LEAST_WEIGHT, 0.0)
        values = torch.cat([before.values, x.v], dim=1).float()
        folded = weights.view(len(values), -1, values.shape[1])
        output = (folded @ values).view(*weights.shape[:2], -1)
        return Attention(weights[..., : before.keys.shape[1]], output)

    def _reach(self, block: Block, i: int) -> torch.Tensor:
        """(t, 1): the last position that is out of each token's reach."""
        assert block.window is not None
        return (self.packs[i].offset + self.start)[:, None] - block.window


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


@dataclass(frozen=True)
class Attention:
    """What attention makes of one pack in one layer, float32.

    Attributes:
        weights: (H, t, m) on the keys before.
        output: (H, t, d_head).
    """

    weights: torch.Tensor
    output: torch.Tensor

    @property
    def joined(self) -> torch.Tensor:
        """(t, H·d_head), W_o's input."""
        return self.output.transpose(0, 1).flatten(1)


class Teacher(Walker):
    """The model with the full prompt.

    Attributes:
        h: of each pack the stream after the layer that was walked last, (t, d).
        importance: (H_kv, n), in the layer that was walked last, over the fitting packs; see
            ``Importance``.
        attention: (H_kv, n), likewise, by attention weights alone.
        output: of each pack, the attention's output in that layer, (t, H·d_head).
    """

    importance: torch.Tensor
    attention: torch.Tensor

    def __init__(self, model: LanguageModel, prefix: Prefix, packs: Sequence[Pack]) -> None:
        super().__init__(model, packs, prefix.length)
        self._prefix = prefix
        self._positions = torch.arange(prefix.length, device=model.device.handle)
        self._recorded: list[tuple[Stream, Stream, torch.Tensor, torch.Tensor]] = []

    def record(self, depth: int | None = None) -> torch.Tensor:
        """Walk through all layers now, or the first few; ``advance`` then reads what was seen.

        Streams go to files once they are large. Returns the importance of all keys (L, H_kv, n),
        which a budget for all layers together needs before the first is compacted.
        """
        layers = range(depth or self.model.card.layers)
        with torch.no_grad(), progress.bar(len(layers), "teacher", "layer") as shown:
            for layer in layers:
                with of_layer("teacher", layer, self.model.card.layers):
                    self.advance(Block(self.model, layer), layer)
                seen = self.h, self.output, self.importance, self.attention
                self._recorded.append(seen)
                shown.update()
        return torch.stack([importance for _, _, importance, _ in self._recorded])

    def context(self, layer: int) -> Before:
        """The prompt's keys and values in a layer, in the model's dtype."""
        dtype = self.model.device.dtype
        keys, values = self._prefix.keys[layer].to(dtype), self._prefix.values[layer].to(dtype)
        return Before(keys, values, self._positions.expand(len(keys), -1))

    def advance(self, block: Block, layer: int) -> None:
        """Walk all packs through one block."""
        if layer < len(self._recorded):
            self.h, self.output, self.importance, self.attention = self._recorded[layer]
            return
        card = self.model.card
        entered, self.h = self.h, self.stream(card.hidden)
        self.output = self.stream(card.heads * card.head_dim)
        before = self.context(layer)
        importance = Importance(block, before.values, card.heads)
        for i, pack in enumerate(self.packs):
            h = entered[i]
            attention = self.attend(block, i, self.project(block, i, h), before)
            self.output[i] = attention.joined
            attended = block.project_out(attention.joined)
            r = block.mix(h, attended)
            self.h[i] = block.finish(r, block.down(block.features(r)))
            if not pack.validation:
                seen = attention.weights, attention.output, attended
                importance.add(*seen, (h, r), pack.weight)
        self.importance, self.attention = importance.result(), importance.attention()
