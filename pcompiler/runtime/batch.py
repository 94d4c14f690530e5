"""Rows that have nothing in common but the model, in one forward pass.

The tokens of all rows lie end to end in one sequence, so every linear layer reads its weights
once for all of them. Attention is computed row by row against the row's own keys, by the very
function that the model would use alone or, of a few tokens on CUDA, by one kernel; a patch is added
to its row's part of a layer's output.
There is no padding, and rows may join, leave and read several tokens in any step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pcompiler.model import LanguageModel
from pcompiler.ops import add_low_rank
from pcompiler.runtime.in_place import over_prefix, window_of
from pcompiler.runtime.layers import ROOM
from pcompiler.runtime.masks import additive, causal
from pcompiler.runtime.patch import Delta
from pcompiler.runtime.prefix import Prefix
from pcompiler.runtime.row_attention import Attention

NAME = "pcompiler_rows"  # of our attention, where transformers keeps them by name


class BatchRow:
    """One continuation of one prefix.

    Args:
        model: the language model.
        prefix: what stands before it; never written to.
        room: tokens that are expected, to allocate once.

    Attributes:
        length: tokens that it has read, those of the prefix not counted.
    """

    def __init__(self, model: LanguageModel, prefix: Prefix, room: int = ROOM) -> None:
        self.prefix = prefix
        self.length = 0
        self._model = model
        self._layers = prefix.layers(model, room)
        patch = prefix.patch
        placed = patch.to(model.device.handle, model.device.dtype) if patch else None
        self.deltas = placed.deltas if placed else {}
        self._causal: torch.Tensor | None = None  # over own keys, as last made

    def read(self) -> Prefix:
        """All of it so far as a prefix of its own; only after a prefix that leaves nothing out."""
        assert self.prefix.bias is None, "a compacted cache has other keys in every head"
        layers = [layer.whole() for layer in self._layers]
        keys = torch.stack([layer.keys[0] for layer in layers])
        values = torch.stack([layer.values[0] for layer in layers])
        return Prefix(keys, values, self.prefix.length + self.length, patch=self.prefix.patch)

    def attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, alone: Attention
    ) -> torch.Tensor:
        """By a kernel, where there is one; else as the model does; see ``Row``."""
        new = q.shape[2]
        layer = self._layers[alone.layer]
        layer.write(keys, values)
        found = alone.by_kernel(self.prefix, q, layer, lambda: self._own_mask(new))
        if found is not None:
            return found
        return alone(q, layer.whole(), self._mask(alone, new, layer.width + layer.own))

    def _own_mask(self, new: int) -> torch.Tensor | None:
        """(new, own), one for all layers; none: the last token sees all of its own."""
        shape = (new, self.length + new)
        if new > 1 and (self._causal is None or self._causal.shape != shape):
            self._causal = causal(self._model, *shape)
        return self._causal if new > 1 else None

    def _mask(self, alone: Attention, new: int, keys: int) -> torch.Tensor | None:
        """What a layer's attention hides, (1, 1 or H, new, keys); none: no mask is needed."""
        model, prefix, window = self._model, self.prefix, alone.window
        end = prefix.length + self.length + new
        if prefix.bias is None and alone.shows_all(new, keys):
            return None
        place, low = model.device.handle, torch.finfo(model.device.dtype).min
        own = torch.arange(prefix.length, end, device=place)
        at = own[-new:, None]
        parts = [additive(model, _visible(own, at, window))[None]]
        if prefix.bias is not None:
            before = over_prefix(model, prefix, alone.layer, alone.module, at[:, 0])
            # A masked key with a negative β would pass the dtype's end.
            before = before.clamp_min(low).expand(-1, new, -1)
            parts = [before, parts[0].expand(len(before), -1, -1)]
        elif prefix.kept:
            assert prefix.kept == prefix.length or window is None, "a window needs every position"
            before = torch.arange(prefix.kept, device=place)
            seen = torch.ones(new, prefix.kept, dtype=torch.bool, device=place)
            if window is not None:
                seen = _visible(before, at, window)
            parts = [additive(model, seen)[None], parts[0]]
        return torch.cat(parts, dim=-1)[None]


def _visible(keys: torch.Tensor, at: torch.Tensor, window: int | None) -> torch.Tensor:
    """(t, n): which positions (n,) are seen from (t, 1)."""
    seen = keys <= at
    return seen if window is None else seen & (keys > at - window)


class Row(Protocol):
    """What shares a forward pass: something that keeps its own keys and knows its own mask."""

    @property
    def deltas(self) -> Mapping[int, Delta]:
        """Its patch by layer, in the model's place and dtype."""
        ...

    def attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, alone: Attention
    ) -> torch.Tensor:
        """Take in new (1, H_kv, t, d) keys and values of a layer, and attend to all of them.

        Args:
            q: (1, H, t, d) queries.
            keys: of the new tokens.
            values: likewise.
            alone: how it would be done for the row alone, and in which layer.

        Returns:
            (1, t, H, d).
        """
        ...


@dataclass(frozen=True)
class Part:
    """One row's part of a forward pass.

    Attributes:
        row: each row once in a pass.
        tokens: what it reads.
        positions: of each token.
        wanted: numbers of the tokens behind which logits are.
    """

    row: Row
    tokens: Sequence[int]
    positions: Sequence[int]
    wanted: Sequence[int]


@dataclass(frozen=True)
class Feed:
    """What one row reads in a step.

    Attributes:
        row: each row once in a step.
        tokens: one or more.
        wanted: whether the logits after the last of them are.
    """

    row: BatchRow
    tokens: Sequence[int]
    wanted: bool = True


def forward(model: LanguageModel, feeds: Sequence[Feed]) -> torch.Tensor:
    """Let rows read their tokens in one forward pass.

    If it raises, the rows are of no use any more.

    Args:
        model: the language model, which nobody else may use meanwhile.
        feeds: at least one.

    Returns:
        (rows that want them, vocabulary) logits in order, float32.
    """
    parts = []
    for feed in feeds:
        start, end = feed.row.prefix.length + feed.row.length, len(feed.tokens) - 1
        positions = range(start, start + len(feed.tokens))
        parts.append(Part(feed.row, feed.tokens, positions, [end] if feed.wanted else []))
    result = run(model, parts)
    for feed in feeds:
        feed.row.length += len(feed.tokens)
    return result


def run(model: LanguageModel, parts: Sequence[Part]) -> torch.Tensor:
    """One forward pass over all parts, end to end.

    Returns:
        (Σ wanted, vocabulary) logits in order, float32.
    """
    device, wanted = model.device.handle, []
    tokens: list[int] = []
    positions: list[int] = []
    places: list[tuple[Row, slice]] = []
    for part in parts:
        start = len(tokens)
        wanted += [start + i for i in part.wanted]
        tokens += part.tokens
        positions += part.positions
        places.append((part.row, slice(start, len(tokens))))
    with torch.no_grad(), _by_rows(model, places) as attention:
        out = model.hf(
            input_ids=model.tensor(tokens),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, dtype=torch.long, device=device),
            pcompiler_model=model,
            pcompiler_parts=places,
            pcompiler_attention=attention,
        )
    result: torch.Tensor = out.logits[0].float()
    return result


@contextmanager
def _by_rows(model: LanguageModel, parts: Sequence[tuple[Row, slice]]) -> Iterator[str]:
    """Inside, the model attends and is patched row by row; yields the attention it has alone."""
    config = model.hf.config
    alone = config._attn_implementation
    patched = sorted({layer for row, _ in parts for layer in row.deltas})
    with ExitStack() as stack:
        for layer in patched:
            linear = model.hf.model.layers[layer].mlp.down_proj
            stack.enter_context(linear.register_forward_hook(_adding(layer, parts)))
        config._attn_implementation = NAME
        try:
            yield alone
        finally:
            config._attn_implementation = alone


def _adding(layer: int, parts: Sequence[tuple[Row, slice]]) -> Callable[..., torch.Tensor]:
    def add(_module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        for row, part in parts:
            if delta := row.deltas.get(layer):
                u, out = arguments[0][:, part], output[:, part]
                output[:, part] = add_low_rank(out, u, delta.a, delta.b, delta.bias)
        return output

    return add


def _attention(
    module: Any,  # noqa: ANN401
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: None,
    *,
    pcompiler_model: LanguageModel,
    pcompiler_parts: Sequence[tuple[Row, slice]],
    pcompiler_attention: str,
    **settings: Any,  # noqa: ANN401
) -> tuple[torch.Tensor, None]:
    """What transformers calls for each layer; see its ``AttentionInterface``."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    function = ALL_ATTENTION_FUNCTIONS.get_interface(pcompiler_attention, eager)
    window = window_of(pcompiler_model, module)
    alone = Attention(module, window, function, function is not eager, settings)
    outputs = []
    for row, part in pcompiler_parts:
        own = query[:, :, part], key[:, :, part], value[:, :, part]
        outputs.append(row.attend(*own, alone))
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(NAME, _attention)
