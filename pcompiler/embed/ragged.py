"""A BERT over one stream of tokens: texts of any lengths side by side, and no padding.

The linear layers see every token of all texts as rows of one matrix; only attention goes text by
text, those of equal length together. Queries, keys and values come from one product. The vectors
are those of transformers' own forward pass, to rounding (3e-7); see BERT (arXiv 1810.04805).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import embedding, gelu, layer_norm, linear
from torch.nn.functional import scaled_dot_product_attention as attention

from pcompiler.device import DTYPES

PRECISIONS = (*DTYPES, "int8")
Linear = Callable[[torch.Tensor], torch.Tensor]
TRIAL_ROWS = 64  # of the product that tells whether a precision is faster here: 2 ms
WORTH = 1.2  # how much faster it has to be


@dataclass(frozen=True)
class _Layer:
    """One block; each part takes and gives (tokens, features), float32."""

    projections: Linear  # queries, keys and values side by side
    output: Linear
    up: Linear
    down: Linear
    norms: tuple[Linear, Linear]


class Ragged:
    """The forward pass of a transformers BERT, on texts of unequal length.

    Args:
        hf: a BertModel; its weights are shared, except where a precision needs its own.
        precision: of the products: float32, or one that gives other vectors in less time.
    """

    def __init__(self, hf: Any, precision: str = "float32") -> None:  # noqa: ANN401
        make = partial(_linear, precision=precision)
        embeddings = hf.embeddings
        self.heads = int(hf.config.num_attention_heads)
        self.words = embeddings.word_embeddings.weight
        # A text on its own is all of type 0.
        kinds = embeddings.token_type_embeddings.weight[0]
        self.places = embeddings.position_embeddings.weight + kinds
        self.norm = _norm(embeddings.LayerNorm)
        self.layers = [_layer(block, make) for block in hf.encoder.layer]

    def means(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The last hidden states of each text, averaged over its tokens.

        Args:
            rows: token ids, ends included, none empty; texts of equal length next to each other.

        Returns:
            (n, d), float32.
        """
        groups = _groups(rows)
        pieces = torch.split(self.states(rows), [count * length for count, length in groups])
        shapes = zip(pieces, groups, strict=True)
        return torch.cat([piece.view(*shape, -1).mean(1) for piece, shape in shapes])

    def firsts(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(n, d): the last hidden state of each text's first token; see ``means``."""
        lengths = torch.tensor([len(row) for row in rows])
        return self.states(rows)[lengths.cumsum(0) - lengths]

    def states(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(tokens, d): the last hidden states of all tokens of all texts; see ``means``."""
        groups = _groups(rows)
        ids = torch.tensor([token for row in rows for token in row])
        places = torch.cat([torch.arange(length).repeat(count) for count, length in groups])
        x = self.norm(embedding(ids, self.words) + self.places[places])
        for layer in self.layers:
            mixed = layer.output(self._mix(layer.projections(x), groups))
            x = layer.norms[0](mixed.add_(x))
            x = layer.norms[1](layer.down(gelu(layer.up(x))).add_(x))
        return x

    def _mix(self, projected: torch.Tensor, groups: Sequence[tuple[int, int]]) -> torch.Tensor:
        """(tokens, 3·d) → (tokens, d): attention within each text."""
        tokens, width = projected.shape[0], projected.shape[1] // 3
        found = projected.new_empty(tokens, self.heads, width // self.heads)
        at = 0
        for count, length in groups:
            here = slice(at, at + count * length)
            q, k, v = projected[here].view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            found[here].view(count, length, self.heads, -1).copy_(
                attention(q, k, v).transpose(1, 2)
            )
            at += count * length
        return found.flatten(1)


def faster(hf: Any, precision: str) -> bool:  # noqa: ANN401 - a transformers model
    """Whether this machine multiplies in a precision faster than in float32: it is tried."""
    weight = hf.encoder.layer[0].intermediate.dense
    x = torch.randn(TRIAL_ROWS, weight.in_features)
    times = []
    for name in (precision, "float32"):
        product = _linear(weight.weight, weight.bias, name)
        product(x)  # warm-up
        start = time.perf_counter()
        for _ in range(3):
            product(x)
        times.append(time.perf_counter() - start)
    return times[0] * WORTH < times[1]


def _groups(rows: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """How many texts of which length follow each other: (count, length)."""
    return [(len(list(same)), length) for length, same in groupby(map(len, rows))]


def _layer(block: Any, make: Callable[..., Linear]) -> _Layer:  # noqa: ANN401
    own, out = block.attention.self, block.attention.output
    three = (own.query, own.key, own.value)
    weight, bias = (torch.cat([getattr(p, name) for p in three]) for name in ("weight", "bias"))
    output, up, down = (
        make(part.weight, part.bias)
        for part in (out.dense, block.intermediate.dense, block.output.dense)
    )
    norms = _norm(out.LayerNorm), _norm(block.output.LayerNorm)
    return _Layer(make(weight, bias), output, up, down, norms)


def _norm(module: Any) -> Linear:  # noqa: ANN401
    return partial(
        layer_norm,
        normalized_shape=module.normalized_shape,
        weight=module.weight,
        bias=module.bias,
        eps=module.eps,
    )


def _linear(weight: torch.Tensor, bias: torch.Tensor, precision: str) -> Linear:
    """Of x gives x·Wᵀ + b, float32 outside whatever it is inside."""
    if precision == "int8":
        return partial(torch.ops.quantized.linear_dynamic, W_prepack=_packed(weight, bias))
    dtype = DTYPES[precision]
    if dtype == torch.float32:
        return partial(linear, weight=weight, bias=bias)
    low, low_bias = weight.to(dtype), bias.to(dtype)
    return lambda x: linear(x.to(dtype), low, low_bias).float()


def _packed(weight: torch.Tensor, bias: torch.Tensor) -> Any:  # noqa: ANN401 - a C++ object
    """Weights in 8 bit with a scale for each output, as the product wants them."""
    weight, bias = weight.detach(), bias.detach()
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():
        # torch means to drop tensors of this kind; the product has no other way to them yet.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
        eighths = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(eighths, bias)
