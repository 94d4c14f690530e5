"""All FISTA steps of non-negative least squares in one launch, a program for each head.

2·m² operations a step. Up to 64 unknowns the matrix stays in registers, and is read once; above,
it is read from the cache at each step. In place of 3 launches a step, 180 in all, and of those that
bound the largest eigenvalue.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from pcompiler.kernels.triton.launch import check, power_of_2

RESIDENT = 64  # unknowns up to which a matrix fits into a program's registers
TILE = 8192  # numbers of a matrix that are held at a time above


@triton.jit
def _times(matrix, tile, x, scratch, m, M: tl.constexpr, ROWS: tl.constexpr, SIZE: tl.constexpr):
    """(M,) |matrix| or matrix times x; SIZE: its absolute values."""
    if ROWS == M:
        product = tl.sum((tl.abs(tile) if SIZE else tile) * x[None, :], axis=1)
    else:
        column = tl.arange(0, M)
        tl.debug_barrier()  # nobody reads the last product any more
        for start in range(0, m, ROWS):
            row = start + tl.arange(0, ROWS)
            part = tl.load(
                matrix + row[:, None] * m + column[None, :],
                mask=(row[:, None] < m) & (column[None, :] < m), other=0.0,
            )  # fmt: skip
            part = tl.abs(part) if SIZE else part
            tl.store(scratch + row, tl.sum(part * x[None, :], axis=1), mask=row < m)
        tl.debug_barrier()
        product = tl.load(scratch + column, mask=column < m, other=0.0)
    return product


@triton.jit
def nonnegative_kernel(
    gram, rhs, start, scratch, out, m, steps, bounds,
    M: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One head."""
    head = tl.program_id(0)
    matrix, scratch = gram + head * m * m, scratch + head * m
    column = tl.arange(0, M)
    inside = column < m
    row = tl.arange(0, ROWS)
    tile = tl.load(
        matrix + row[:, None] * m + column[None, :],
        mask=(row[:, None] < m) & inside[None, :] & (ROWS == M), other=0.0,
    )  # fmt: skip
    # Above the largest eigenvalue for any positive x, and near it for one near the eigenvector.
    x = tl.where(inside, 1.0, 0.0)
    top = float("inf")
    for _ in range(bounds):
        y = _times(matrix, tile, x, scratch, m, M, ROWS, True)
        top = tl.minimum(top, tl.max(tl.where(inside, y / tl.where(inside, x, 1.0), 0.0), axis=0))
        x = tl.where(inside, tl.maximum(y / tl.max(y, axis=0), 1e-30), 0.0)
    rate = 1.0 / top
    w = tl.load(start + head * m + column, mask=inside, other=0.0)
    towards = rate * tl.load(rhs + head * m + column, mask=inside, other=0.0)
    ahead = w
    t = 1.0
    for _ in range(steps):
        down = rate * _times(matrix, tile, ahead, scratch, m, M, ROWS, False)
        new = tl.maximum(ahead - down + towards, 0.0)
        later = (1.0 + tl.sqrt(1.0 + 4.0 * t * t)) / 2.0
        ahead = w + (1.0 + (t - 1.0) / later) * (new - w)
        w, t = new, later
    tl.store(out + head * m + column, w, mask=inside)


def nonnegative(
    gram: torch.Tensor, rhs: torch.Tensor, start: torch.Tensor, steps: int, bounds: int
) -> torch.Tensor:
    """See ``ops.nonnegative``; contiguous float32."""
    heads, m = rhs.shape
    check(gram.shape == (heads, m, m) and start.shape == rhs.shape, "G is (b, m, m), r (b, m).")
    check(all(x.dtype == torch.float32 for x in (gram, rhs, start)), "all are float32.")
    gram, rhs, start = gram.contiguous(), rhs.contiguous(), start.contiguous()
    out, scratch = torch.empty_like(rhs), torch.empty_like(rhs)
    padded = power_of_2(m)
    rows = padded if padded <= RESIDENT else TILE // padded
    if heads and m:
        nonnegative_kernel[(heads,)](
            gram,
            rhs,
            start,
            scratch,
            out,
            m,
            steps,
            bounds,
            M=padded,
            ROWS=rows,
            num_warps=8,
        )
    return out
