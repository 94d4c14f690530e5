"""Many continuations of one prefix, laid end to end in one row under a block mask.

A batch would copy the prefix's keys for every row; a packed row shares them, needs no padding,
and runs on the model's ordinary forward pass. Each token sees the prefix and the tokens of its
own continuation up to itself, at the positions it would have alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache

from pcompiler.model import LanguageModel
from pcompiler.runtime.in_place import in_place
from pcompiler.runtime.masks import for_family
from pcompiler.runtime.prefix import Prefix


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


class PackedRow:
    """The growing row. ``rows`` continuations, numbered from 0.

    Args:
        model: the language model.
        prefix: what all continuations share.
        rows: how many there are.
        room: tokens that are expected in all, to allocate once.
        cache: to run with instead of one that is allocated so; it holds the prefix already.
    """

    def __init__(
        self,
        model: LanguageModel,
        prefix: Prefix,
        rows: int,
        room: int = 128,
        cache: DynamicCache | None = None,
    ) -> None:
        self._model = model
        self._cache = prefix.cache(model, room) if cache is None else cache
        self._prefix = prefix
        self._lengths = [0] * rows  # tokens that each continuation has so far
        self._owner = torch.empty(0, dtype=torch.long)  # (t,) continuation of each cached token
        self._position = torch.empty(0, dtype=torch.long)  # (t,) position of each cached token

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
        with torch.no_grad():
            return self.run(tokens, rows, logits)

    def run(
        self, tokens: Sequence[Sequence[int]], rows: Sequence[int], logits: Sequence[int]
    ) -> torch.Tensor:
        """``extend`` with whatever gradients are wanted; see there."""
        owner: list[int] = []
        position: list[int] = []
        wanted: list[int] = []
        for new, row, count in zip(tokens, rows, logits, strict=True):
            start = self._prefix.length + self._lengths[row]
            owner += [row] * len(new)
            position += range(start, start + len(new))
            wanted += range(len(owner) - count, len(owner))
            self._lengths[row] += len(new)
        seen = len(self._owner)
        self._owner = torch.cat([self._owner, torch.tensor(owner)])
        self._position = torch.cat([self._position, torch.tensor(position)])
        flat = [token for new in tokens for token in new]
        device = self._model.device.handle
        positions = self._position[seen:].to(device)
        with in_place(self._model, self._prefix, positions):
            out = self._model.hf(
                input_ids=self._model.tensor(flat),
                position_ids=positions[None],
                attention_mask=self._masks(seen),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=torch.tensor(wanted, device=device),
            )
        result: torch.Tensor = out.logits[0].float()
        return result

    def _masks(self, seen: int) -> torch.Tensor | dict[str, torch.Tensor] | None:
        """The mask in the form that the family takes: none, one, or one for each layer type."""
        if len(self._lengths) == 1 and self._prefix.bias is None:
            return None  # plain causal order: leave transformers its fastest kernel
        return for_family(self._model, lambda window: self._visible(seen, window))

    def _visible(self, seen: int, window: int | None) -> torch.Tensor:
        """(new, m + old + new): which keys each new token sees."""
        row, at = self._owner[seen:, None], self._position[seen:, None]
        own = (row == self._owner) & (self._position <= at)
        before = torch.arange(self._prefix.kept)
        visible = torch.cat([torch.ones(len(row), len(before), dtype=torch.bool), own], dim=1)
        if window is not None and self._prefix.positions is not None:
            # Every head keeps other positions: ``in_place`` hides those that are out of reach.
            own_reach = self._position > at - window
            visible &= torch.cat([torch.ones_like(visible[:, : len(before)]), own_reach], dim=1)
        elif window is not None:
            assert self._prefix.kept == self._prefix.length, "a window needs every position"
            visible &= torch.cat([before, self._position]) > at - window
        return visible
