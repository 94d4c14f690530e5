"""Many continuations of one prefix, laid end to end in one row under a block mask.

A batch would copy the prefix's keys for every row; a packed row shares them, needs no padding,
and runs on the model's ordinary forward pass. Each token sees the prefix and the tokens of its
own continuation up to itself, at the positions it would have alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, TypeAlias

import torch
from transformers import DynamicCache

from pcompiler.attention import GATHERED_SHARE, attend
from pcompiler.model import LanguageModel
from pcompiler.runtime import batch
from pcompiler.runtime.in_place import biased, in_place, over_prefix
from pcompiler.runtime.layers import ROOM, RowLayer
from pcompiler.runtime.masks import additive, for_family
from pcompiler.runtime.patch import Delta
from pcompiler.runtime.prefix import Prefix
from pcompiler.runtime.row_attention import Attention
from pcompiler.runtime.short_texts import Reading, attend_in_parts, table
from pcompiler.runtime.together import joint

TOGETHER_TOKENS = 4096  # of several rows in one forward pass: their logits are 4·V bytes each


def packs(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Numbers of consecutive texts that are ``limit`` tokens together, or one that is longer."""
    pack: list[int] = []
    size = 0
    for i, length in enumerate(lengths):
        if pack and size + length > limit:
            yield pack
            pack, size = [], 0
        pack.append(i)
        size += length
    if pack:
        yield pack


class Run(NamedTuple):
    """What transformers' own pass over a packed row came to."""

    logits: torch.Tensor  # (Σ logits, vocabulary), float32
    streams: torch.Tensor  # (t, L − 1, d) of all new tokens after every block but the last


class PackedRow:
    """The growing row. ``rows`` continuations, numbered from 0.

    Args:
        model: the language model.
        prefix: what all continuations share.
        rows: how many there are.
        room: tokens that are expected in all, to allocate once.
    """

    def __init__(self, model: LanguageModel, prefix: Prefix, rows: int, room: int = ROOM) -> None:
        self.model, self.prefix, self.rows = model, prefix, rows
        self._room = room
        self._places: list[list[int]] = [[] for _ in range(rows)]  # of each one's tokens
        nothing = torch.empty(0, dtype=torch.long, device=model.device.handle)
        self._owner = nothing  # (t,) continuation of each cached token
        self._position = nothing  # (t,) position of each cached token

    @cached_property
    def layers(self) -> list[RowLayer]:
        """Keys and values of what was read by ``extend``."""
        return self.prefix.layers(self.model, self._room)

    def extend(
        self, tokens: Sequence[Sequence[int]], rows: Sequence[int], logits: Sequence[int]
    ) -> torch.Tensor:
        """Append tokens to some continuations in one forward pass.

        Args:
            tokens: new tokens of each continuation in ``rows``.
            rows: which continuations; each at most once.
            logits: how many trailing positions of each to return logits for.

        Returns:
            (Σ logits, vocabulary) logits in order of ``rows``, float32; without a gradient.
        """
        return _extend(self, tokens, rows, logits)

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        rows: Sequence[int],
        logits: Sequence[int],
        cache: DynamicCache,
    ) -> Run:
        """``extend`` by transformers' own pass, with whatever gradients are wanted; see there.

        The cache, which holds the prefix and what was read before, is the caller's; one row is
        read in one of the two ways.
        """
        seen = len(self._owner)
        flat, _, wanted = self.take(tokens, rows, logits)
        device, positions = self.model.device.handle, self.positions(seen)
        with in_place(self.model, self.prefix, positions):
            out = self.model.hf(
                input_ids=self.model.tensor(flat),
                position_ids=positions[None],
                attention_mask=self._masks(seen),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.tensor(wanted, device=device),
                output_hidden_states=True,
            )
        return Run(out.logits[0].float(), torch.stack(out.hidden_states[1:], 2)[0, :, :-1])

    def take(
        self, tokens: Sequence[Sequence[int]], rows: Sequence[int], logits: Sequence[int]
    ) -> tuple[list[int], list[int], list[int]]:
        """Note new tokens: all of them end to end, their positions, and which want logits."""
        owner, position, wanted = list[int](), list[int](), list[int]()
        for new, row, count in zip(tokens, rows, logits, strict=True):
            start = self.prefix.length + len(self._places[row])
            place = len(self._owner) + len(owner)
            self._places[row] += range(place, place + len(new))
            owner += [row] * len(new)
            position += range(start, start + len(new))
            wanted += range(len(owner) - count, len(owner))
        device = self.model.device.handle
        self._owner = torch.cat([self._owner, torch.tensor(owner, device=device)])
        self._position = torch.cat([self._position, torch.tensor(position, device=device)])
        return [token for new in tokens for token in new], position, wanted

    def drop(self, tokens: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Undo ``take``."""
        for new, row in zip(tokens, rows, strict=True):
            del self._places[row][len(self._places[row]) - len(new) :]
        seen = len(self._owner) - sum(map(len, tokens))
        self._owner, self._position = self._owner[:seen], self._position[:seen]

    @property
    def alone(self) -> bool:
        """Whether there is one continuation, after keys without biases: plain causal order."""
        return self.rows == 1 and self.prefix.bias is None

    def sees(self, tokens: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Of tokens that were taken last, the table of what each one sees; see ``table``."""
        seen = table([self._places[row] for row in rows], [len(new) for new in tokens])
        return seen.to(self.model.device.handle)

    def positions(self, seen: int) -> torch.Tensor:
        """Of the tokens after so many."""
        return self._position[seen:]

    def _masks(self, seen: int) -> torch.Tensor | dict[str, torch.Tensor] | None:
        """The mask in the form that the family takes: none, one, or one for each layer type."""
        if self.alone:
            return None  # leave transformers its fastest kernel
        return for_family(self.model, lambda window: self.visible(seen, window))

    def visible(self, seen: int, window: int | None) -> torch.Tensor:
        """(new, m + old + new): which keys each token after those ``seen`` sees."""
        row, at = self._owner[seen:, None], self._position[seen:, None]
        own = (row == self._owner) & (self._position <= at)
        before = torch.arange(self.prefix.kept, device=own.device)
        visible = torch.cat([own.new_ones(len(row), len(before)), own], dim=1)
        if window is not None and self.prefix.positions is not None:
            # Every head keeps other positions: ``in_place`` hides those that are out of reach.
            own_reach = self._position > at - window
            visible &= torch.cat([torch.ones_like(visible[:, : len(before)]), own_reach], dim=1)
        elif window is not None:
            assert self.prefix.kept == self.prefix.length, "a window needs every position"
            visible &= torch.cat([before, self._position]) > at - window
        return visible

    @cached_property
    def deltas(self) -> Mapping[int, Delta]:
        """The prefix's patch by layer, as the model computes."""
        patch, device = self.prefix.patch, self.model.device
        return patch.to(device.handle, device.dtype).deltas if patch else {}


Extension: TypeAlias = tuple[PackedRow, Sequence[Sequence[int]], Sequence[int], Sequence[int]]


class _Turn:
    """A packed row's part of one forward pass that it shares; see ``batch.Row``."""

    def __init__(
        self,
        packed: PackedRow,
        tokens: Sequence[Sequence[int]],
        rows: Sequence[int],
        logits: Sequence[int],
    ) -> None:
        self._packed, self._new = packed, (tokens, rows)
        self._ends = [layer.own for layer in packed.layers]
        self._seen = len(packed.positions(0))
        self._masks: dict[int | None, torch.Tensor] = {}
        self.deltas = packed.deltas
        self._taken = packed.take(tokens, rows, logits)

    def part(self) -> batch.Part:
        """What the pass is given; not kept, as a cycle would keep the cache with it."""
        return batch.Part(self, *self._taken)

    def undo(self) -> None:
        """Leave the packed row as it was."""
        self._packed.drop(*self._new)
        for layer, end in zip(self._packed.layers, self._ends, strict=True):
            layer.cut(end)

    def attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, alone: Attention
    ) -> torch.Tensor:
        """By a kernel or a table of what is seen, where there is one; else as the model does."""
        layer = self._packed.layers[alone.layer]
        layer.write(keys, values)
        ways = self._by_kernel, self._by_table  # the one multiplies with the tokens of all rows
        for way in ways[:: -1 if self._packed.rows >= GATHERED_SHARE else 1]:
            if (found := way(q, layer, alone)) is not None:
                return found
        return alone(q, layer.whole(), self._mask(alone, q.shape[2], layer.width + layer.own))

    def _by_kernel(self, q: torch.Tensor, layer: RowLayer, alone: Attention) -> torch.Tensor | None:
        return alone.by_kernel(self._packed.prefix, q, layer, lambda: self._own_mask)

    def _by_table(self, q: torch.Tensor, layer: RowLayer, alone: Attention) -> torch.Tensor | None:
        scene = self._reading.scene(alone, layer)
        return attend_in_parts(q[0], scene)[None] if attend.path(q[0], scene) else None

    @cached_property
    def _reading(self) -> Reading:
        at, sees = self._packed.positions(self._seen), self._packed.sees(*self._new)
        return Reading(self._packed.model, self._packed.prefix, at, sees)

    @cached_property
    def _own_mask(self) -> torch.Tensor | None:
        """(new, own), one for all layers; none: the one token that is read sees all of its own."""
        packed = self._packed
        if packed.rows == len(packed.positions(self._seen)) == 1:
            return None
        return additive(packed.model, packed.visible(self._seen, None)[:, packed.prefix.kept :])

    def _mask(self, alone: Attention, new: int, keys: int) -> torch.Tensor | None:
        packed = self._packed
        model, prefix, window = packed.model, packed.prefix, alone.window
        if packed.alone and alone.shows_all(new, keys):
            return None
        if window not in self._masks:
            self._masks[window] = additive(model, packed.visible(self._seen, window))[None, None]
        mask = self._masks[window]
        if prefix.bias is None:
            return mask
        extra = over_prefix(model, prefix, alone.layer, alone.module, packed.positions(self._seen))
        return biased(mask, extra, prefix.kept)


def _extend_together(calls: Sequence[Extension]) -> list[torch.Tensor]:
    """Rows with nothing in common but the model, in as few forward passes as memory allows."""
    found: dict[int, torch.Tensor] = {}
    turns: list[_Turn] = []
    try:
        for group in _groups(calls):
            some = [_Turn(*calls[i]) for i in group]
            turns += some
            parts = [turn.part() for turn in some]
            logits = batch.run(calls[group[0]][0].model, parts)
            each = torch.split(logits, [len(part.wanted) for part in parts])
            found.update(zip(group, each, strict=True))
    except BaseException:
        for turn in turns:
            turn.undo()
        raise
    return [found[i] for i in range(len(calls))]


def _groups(calls: Sequence[Extension]) -> Iterator[list[int]]:
    """Numbers of calls for the same model, few enough tokens for one pass."""

    def model(i: int) -> int:
        return id(calls[i][0].model.hf)

    for _, numbers in groupby(sorted(range(len(calls)), key=model), key=model):
        same = list(numbers)
        lengths = [sum(map(len, calls[i][1])) for i in same]
        for group in packs(lengths, TOGETHER_TOKENS):
            yield [same[j] for j in group]


@joint(_extend_together, rank=0)
def _extend(
    packed: PackedRow,
    tokens: Sequence[Sequence[int]],
    rows: Sequence[int],
    logits: Sequence[int],
) -> torch.Tensor:
    return _extend_together([(packed, tokens, rows, logits)])[0]
