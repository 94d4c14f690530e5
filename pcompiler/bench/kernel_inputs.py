"""Inputs of each hot operation, small and odd or as large as in a compile: for tests and timing.

A tensor of floats is a window of a larger one that is NaN around it, so that a kernel that reads
where it should not shows it, and its strides are not those of a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pcompiler import ops
from pcompiler.codec.tensors import to_int8
from pcompiler.kernels.op import Op

Make = Callable[[torch.Generator, torch.dtype], tuple[Any, ...]]
AnyOp = Op[..., Any]


@dataclass(frozen=True)
class Case:
    """One call of an operation.

    Attributes:
        op: the operation.
        shape: in words.
        dtype: of its large inputs.
        make: generator and dtype → arguments, on the generator's device.
        moved: bytes that it has to read and write, at least.
        operations: additions and multiplications.
    """

    op: AnyOp
    shape: str
    dtype: torch.dtype
    make: Make
    moved: int = 0
    operations: int = 0

    @property
    def name(self) -> str:
        """As in ``nonnegative, 3 heads of 100, float32``."""
        return f"{self.op.name}, {self.shape}, {str(self.dtype).removeprefix('torch.')}"

    def inputs(self, device: torch.device, seed: int = 0) -> tuple[Any, ...]:
        """The arguments, fresh."""
        return self.make(torch.Generator(device).manual_seed(seed), self.dtype)


def window(
    draw: torch.Generator, dtype: torch.dtype, *shape: int, scale: float = 1.0
) -> torch.Tensor:
    """A random tensor within NaN; its last dimension is contiguous."""
    whole = torch.full([n + 3 for n in shape], torch.nan, dtype=dtype, device=draw.device)
    inner = whole[tuple(slice(1, n + 1) for n in shape)]
    return inner.copy_(scale * torch.randn(shape, generator=draw, device=draw.device))


def sums(n: int, k: int, d: int) -> tuple[str, Make, int, int]:
    """Of ``ops.weighted_sums``."""

    def make(draw: torch.Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        u, t = window(draw, dtype, n, k), window(draw, dtype, d, n).T
        w = 1e-6 * torch.rand(2 * n, generator=draw, device=draw.device)[::2]
        before = torch.randn(k, k, generator=draw, device=draw.device) * 1e-6
        other = torch.randn(k, d, generator=draw, device=draw.device) * 1e-6
        return before + before.T, other, u, t, w

    return f"{n} × ({k}, {d})", make, 2 * n * (k + d) + 8 * k * (k + d), n * k * (k + 2 * d)


def low_rank(n: int, k: int, d: int, rank: int) -> tuple[str, Make, int, int]:
    """Of ``ops.add_low_rank``; factors as an artifact has them, in float16, b transposed."""

    def make(draw: torch.Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        out, x = window(draw, dtype, n, d), window(draw, dtype, n, k)
        a = window(draw, torch.float16, rank, k, scale=k**-0.5)
        b = window(draw, torch.float16, rank, d, scale=max(rank, 1) ** -0.5).T
        return out, x, a, b, window(draw, torch.float16, d)

    moved = 2 * (rank * (k + d) + n * (k + 2 * d))
    return f"{n} × {k} → {rank} → {d}", make, moved, 2 * n * rank * (k + d)


def attention(
    heads: int, kv_heads: int, t: int, m: int, s: int, d: int, bits: int = 16, bias: bool = True
) -> tuple[str, Make, int, int]:
    """Of ``ops.prefix_attention``; one head's last keys are not there."""

    def make(draw: torch.Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        q = window(draw, dtype, t, heads, d).transpose(0, 1)
        keys, values = (window(draw, dtype, kv_heads, m, d) for _ in range(2))
        own = [window(draw, dtype, kv_heads, s, d) for _ in range(2)]
        beta = window(draw, dtype, kv_heads, m) if bias else None
        if beta is not None:
            beta[0, m // 2 :] = -30_000.0
        places = torch.arange(s, device=draw.device)
        hidden = places[None] > places[s - t :, None] if s else places[None].expand(t, 0) > 0
        mask = torch.zeros(hidden.shape, dtype=dtype, device=draw.device)
        mask.masked_fill_(hidden, torch.finfo(dtype).min)
        if bits == 16:
            return q, keys, values, *own, d**-0.5, beta, mask
        (keys, key_scales), (values, value_scales) = to_int8(keys), to_int8(values)
        return q, keys, values, *own, d**-0.5, beta, mask, key_scales, value_scales

    told = f"{heads}/{kv_heads} heads of {d}, {t} queries, {m} + {s} keys of {bits} bit"
    each = 2 if bits == 16 else 1 + 2 / 32
    moved = int(2 * kv_heads * (m * each + 2 * s) * d + 4 * heads * t * d)
    return told, make, moved, 4 * heads * t * (m + s) * d


def least_squares(heads: int, m: int) -> tuple[str, Make, int, int]:
    """Of ``ops.nonnegative``, as attention matching poses them: positive rows, many small."""

    def make(draw: torch.Generator, dtype: torch.dtype) -> tuple[Any, ...]:
        n = 4 * m
        logits = 3 * torch.randn(heads, n, m, generator=draw, device=draw.device)
        some = logits.softmax(-1) * torch.rand(heads, n, 1, generator=draw, device=draw.device)
        g, r = some.mT @ some, some.sum(1)
        ridge = 1e-3 * g.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
        g.diagonal(dim1=1, dim2=2).add_(ridge)
        # Not linalg.solve: MKL's batched pivots failed once on two threads (SLASWP, parameter 6).
        start = torch.cholesky_solve((r + ridge)[..., None], torch.linalg.cholesky(g))[..., 0]
        start.clamp_min_(0)
        return g.to(dtype), (r + ridge).to(dtype), start.to(dtype), 60, 8

    return f"{heads} heads of {m}", make, 4 * heads * m * m, 2 * 68 * heads * m * m


def cases(large: bool) -> Iterator[Case]:
    """All of them; ``large``: as in a compile of a small model or a few layers of a large one."""
    half = (torch.bfloat16, torch.float16, torch.float32)
    single = (torch.float32,)
    sizes = LARGE if large else SMALL
    for op, dtypes, made in (
        (ops.weighted_sums, half, sizes["sums"]),
        (ops.add_low_rank, half, sizes["low rank"]),
        (ops.prefix_attention, half, sizes["attention"]),
        (ops.nonnegative, single, sizes["least squares"]),
    ):
        for dtype in dtypes[:1] if large else dtypes:
            for shape, make, moved, operations in made:
                yield Case(op, shape, dtype, make, moved, operations)


SMALL = {
    "sums": [sums(0, 5, 3), sums(1, 1, 1), sums(37, 70, 9), sums(130, 129, 65)],
    "low rank": [
        low_rank(0, 5, 3, 2), low_rank(1, 48, 32, 1), low_rank(3, 130, 33, 16),
        low_rank(17, 257, 65, 40), low_rank(2, 7, 5, 0),
    ],
    "attention": [
        attention(4, 2, 1, 0, 1, 8), attention(9, 3, 1, 100, 5, 64),
        attention(4, 4, 7, 65, 20, 40), attention(6, 2, 3, 700, 3, 64, bits=8),
        attention(2, 1, 1, 33, 0, 16, bits=8), attention(8, 2, 20, 40, 20, 32, bias=False),
    ],
    "least squares": [
        least_squares(0, 3), least_squares(1, 1), least_squares(3, 37), least_squares(2, 130),
    ],
}  # fmt: skip
LARGE = {
    "sums": [sums(2048, 1536, 576), sums(256, 1536, 576), sums(2048, 8192, 2048)],
    "low rank": [
        low_rank(1, 1536, 576, 16), low_rank(16, 1536, 576, 16), low_rank(1, 14336, 4096, 16),
    ],
    "attention": [
        attention(9, 3, 1, 100, 64, 64), attention(9, 3, 1, 100, 64, 64, bits=8),
        attention(9, 3, 1, 1024, 64, 64), attention(9, 3, 1, 1024, 64, 64, bits=8),
        attention(32, 8, 1, 8192, 64, 128), attention(32, 8, 1, 8192, 64, 128, bits=8),
        attention(32, 8, 16, 2048, 64, 128, bits=8),
    ],
    "least squares": [least_squares(3, 100), least_squares(3, 250), least_squares(8, 500)],
}  # fmt: skip
