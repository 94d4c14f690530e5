"""out + (x aᵀ) bᵀ + bias in one launch, for the few rows of a decoding step.

2·n·r·(k + d) operations; a and b are read once from memory, and a again from the cache by each
block of columns. In place of 4 launches, and of 3 more where the factors are in another dtype.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from pcompiler.kernels.triton.launch import check, power_of_2, widened

ROWS, COLUMNS, INNER = 16, 32, 128  # what a program holds; 16 rows is the least a product takes


@triton.jit
def add_low_rank_kernel(
    out, x, a, b, bias, new, n, k, d, rank, out_row, x_row, a_row, a_column, b_row, b_column,
    bias_row, WIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, RANK: tl.constexpr,
    INNER: tl.constexpr,
):  # fmt: skip
    """Some rows and columns of the result."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    r = tl.arange(0, RANK)
    narrow = tl.zeros((ROWS, RANK), dtype=tl.float32)
    for start in range(0, k, INNER):
        at = start + tl.arange(0, INNER)
        part = tl.load(x + row * x_row + at[None, :], mask=(row < n) & (at[None, :] < k), other=0.0)
        factor = tl.load(
            a + r[None, :] * a_row + at[:, None] * a_column,
            mask=(r[None, :] < rank) & (at[:, None] < k), other=0.0,
        ).to(part.dtype)  # fmt: skip
        if WIDE:
            narrow = tl.dot(
                part.to(tl.float32), factor.to(tl.float32), narrow, input_precision="tf32x3"
            )
        else:
            narrow = tl.dot(part, factor, narrow)
    factor = tl.load(
        b + column[None, :] * b_row + r[:, None] * b_column,
        mask=(column[None, :] < d) & (r[:, None] < rank), other=0.0,
    ).to(x.dtype.element_ty)  # fmt: skip
    if WIDE:
        wide = tl.dot(narrow, factor.to(tl.float32), input_precision="tf32x3")
    else:
        wide = tl.dot(narrow.to(factor.dtype), factor)
    inside = (row < n) & (column[None, :] < d)
    wide += tl.load(bias + column * bias_row, mask=column < d, other=0.0).to(tl.float32)[None, :]
    wide += tl.load(out + row * out_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(new + row * d + column[None, :], wide.to(new.dtype.element_ty), mask=inside)


def add_low_rank(
    out: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """See ``ops.add_low_rank``; factors of any strides and floating dtype."""
    (rank, k), d = a.shape, len(b)
    check(b.shape == (d, rank) and bias.shape == (d,), "b is (d, rank), the bias (d,).")
    check(out.shape == (*x.shape[:-1], d) and x.shape[-1] == k, "x is (…, k) and out (…, d).")
    check(out.dtype == x.dtype, "out and x are of one dtype.")
    flat, before = x.reshape(-1, k), out.reshape(-1, d)
    if flat.stride(1) != 1:
        flat = flat.contiguous()
    if before.stride(1) != 1:
        before = before.contiguous()
    n = len(flat)
    new = torch.empty((n, d), dtype=out.dtype, device=out.device)
    if n and d:
        grid = (triton.cdiv(n, ROWS), triton.cdiv(d, COLUMNS))
        add_low_rank_kernel[grid](
            before, flat, a, b, bias, new, n, k, d, rank, before.stride(0), flat.stride(0),
            *a.stride(), *b.stride(), *bias.stride(), WIDE=widened(x.dtype), ROWS=ROWS,
            COLUMNS=COLUMNS, RANK=power_of_2(rank), INNER=INNER, num_warps=4, num_stages=3,
        )  # fmt: skip
    return new.view(out.shape)
