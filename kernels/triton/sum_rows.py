"""Sums of a table's rows, text by text, in one launch: static embeddings.

One addition for each number that is read, so memory bounds it: 4·width bytes a token. In place of
the launches by which torch first counts each text's tokens and numbers them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from pcompiler.kernels.triton.launch import check, power_of_2

TOKENS, WIDTH = 16, 256  # rows, and numbers of each, that a program holds at a time


@triton.jit
def sum_rows_kernel(
    table, ids, offsets, out, width, table_row, TOKENS: tl.constexpr, WIDTH: tl.constexpr
):
    """Some columns of one text's sum."""
    text = tl.program_id(0)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    first, last = tl.load(offsets + text), tl.load(offsets + text + 1)
    sums = tl.zeros((WIDTH,), dtype=tl.float32)
    for start in range(first, last, TOKENS):
        place = start + tl.arange(0, TOKENS)
        row = tl.load(ids + place, mask=place < last, other=0).to(tl.int64)
        part = tl.load(
            table + row[:, None] * table_row + column[None, :],
            mask=(place < last)[:, None] & (column < width)[None, :], other=0.0,
        )  # fmt: skip
        sums += tl.sum(part.to(tl.float32), axis=0)
    where = text.to(tl.int64) * width + column
    tl.store(out + where, sums.to(out.dtype.element_ty), mask=column < width)


def sum_rows(table: torch.Tensor, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """See ``ops.sum_rows``; rows contiguous."""
    width, texts = table.shape[1], len(offsets) - 1
    check(table.stride(1) == 1, "the table's rows are contiguous.")
    check(ids.is_contiguous() and offsets.is_contiguous(), "ids and offsets are contiguous.")
    out = torch.empty((texts, width), dtype=table.dtype, device=table.device)
    block = min(WIDTH, power_of_2(width))
    if texts and width:
        sum_rows_kernel[(texts, triton.cdiv(width, block))](
            table, ids, offsets, out, width, table.stride(0), TOKENS=TOKENS, WIDTH=block
        )
    return out
