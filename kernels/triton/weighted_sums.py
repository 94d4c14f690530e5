"""UᵀWU and UᵀWT of a batch of rows, added to running sums in one launch.

n·k·(k + 1) + 2·n·k·d operations; reads n·(k + d) numbers and the old sums, writes the new ones.
In place of 20 launches: casts, roots, blocks of products, a triangle and its transpose. Blocks
below the diagonal are not computed: they are the others, transposed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from pcompiler.kernels.triton.launch import check, choices, widened

CONFIGS = choices(
    triton.Config({"BLOCK": 64, "ROWS": 32}, num_warps=4, num_stages=3),
    triton.Config({"BLOCK": 64, "ROWS": 64}, num_warps=4, num_stages=3),
    triton.Config({"BLOCK": 128, "ROWS": 32}, num_warps=8, num_stages=3),
)


@triton.jit
def _product(
    left, right, w, n, left_width, right_width, left_row, left_column, right_row, right_column,
    weight_row, i, j, WIDE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """(BLOCK, BLOCK), Σ over rows of w · left · right, float32."""
    a = i * BLOCK + tl.arange(0, BLOCK)
    b = j * BLOCK + tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, n, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = row < n
        x = tl.load(
            left + row[None, :] * left_row + a[:, None] * left_column,
            mask=inside[None, :] & (a[:, None] < left_width), other=0.0,
        )  # fmt: skip
        y = tl.load(
            right + row[:, None] * right_row + b[None, :] * right_column,
            mask=inside[:, None] & (b[None, :] < right_width), other=0.0,
        )  # fmt: skip
        weight = tl.load(w + row * weight_row, mask=inside, other=0.0)
        y_wide = y.to(tl.float32) * weight.to(tl.float32)[:, None]
        if WIDE:
            sums = tl.dot(x.to(tl.float32), y_wide, sums, input_precision="tf32x3")
        else:
            # Two numbers of 8 bits each hold a weighted one: bfloat16 products, 16 bits of result.
            high = y_wide.to(x.dtype)
            low = (y_wide - high.to(tl.float32)).to(x.dtype)
            sums = tl.dot(x, high, sums)
            sums = tl.dot(x, low, sums)
    return sums


@triton.autotune(CONFIGS, key=["k", "d", "WIDE"])
@triton.jit
def weighted_sums_kernel(
    uu, ut, u, t, w, new_uu, new_ut, n, k, d, u_row, u_column, t_row, t_column, w_row,
    WIDE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One block of the k × k sums on or above the diagonal, or one of the k × d sums."""
    i, j = tl.program_id(0), tl.program_id(1)
    blocks = tl.cdiv(k, BLOCK)
    row = i * BLOCK + tl.arange(0, BLOCK)[:, None]
    if j >= blocks:
        sums = _product(
            u, t, w, n, k, d, u_row, u_column, t_row, t_column, w_row, i, j - blocks,
            WIDE, BLOCK, ROWS,
        )  # fmt: skip
        column = (j - blocks) * BLOCK + tl.arange(0, BLOCK)[None, :]
        at, inside = row * d + column, (row < k) & (column < d)
        tl.store(new_ut + at, sums + tl.load(ut + at, mask=inside, other=0.0), mask=inside)
    elif j >= i:
        sums = _product(
            u, u, w, n, k, k, u_row, u_column, u_row, u_column, w_row, i, j, WIDE, BLOCK, ROWS
        )
        column = j * BLOCK + tl.arange(0, BLOCK)[None, :]
        # Left and right are not rounded alike: symmetric only because one half is written twice.
        at, inside = row * k + column, (column < k) & (row <= column)
        sums += tl.load(uu + at, mask=inside, other=0.0)
        tl.store(new_uu + at, sums, mask=inside)
        tl.store(new_uu + column * k + row, sums, mask=inside & (row < column))


def weighted_sums(
    uu: torch.Tensor, ut: torch.Tensor, u: torch.Tensor, t: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """See ``ops.weighted_sums``; u and t of one dtype, any strides; the sums contiguous."""
    (n, k), d = u.shape, t.shape[1]
    check(t.shape == (n, d) and w.shape == (n,), "u, t and w have one row for each other.")
    check(u.dtype == t.dtype, "u and t are of one dtype.")
    check(uu.shape == (k, k) and ut.shape == (k, d), "the sums are (k, k) and (k, d).")
    check(uu.dtype == ut.dtype == torch.float32, "the sums are float32.")
    check(uu.is_contiguous() and ut.is_contiguous(), "the sums are contiguous.")
    new_uu, new_ut = torch.empty_like(uu), torch.empty_like(ut)
    wide = widened(u.dtype) or u.dtype == torch.float16  # small weights are below float16's least

    def grid(chosen: dict[str, int]) -> tuple[int, int]:
        blocks = triton.cdiv(k, chosen["BLOCK"])
        return blocks, blocks + triton.cdiv(d, chosen["BLOCK"])

    if k:
        weighted_sums_kernel[grid](
            uu, ut, u, t, w, new_uu, new_ut, n, k, d, *u.stride(), *t.stride(), *w.stride(),
            WIDE=wide,
        )  # fmt: skip
    return new_uu, new_ut
