"""A few queries over a prefix, with β and 8-bit keys, and over their own tokens, in one pass.

4·H·t·(m + s)·d operations. Each KV head's keys and values are read once for all its query heads:
4 bytes a number pair in 16 bit, 2 + 4/group in 8 bit. In place of 10 launches a layer: β to every
query head, a mask of both parts, its limits, keys repeated, and the attention itself.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from pcompiler.kernels.triton.launch import check, power_of_2, widened

KEYS = 64  # that a program holds at a time
PROGRAMS = 128  # at least, where the prefix is long enough to be divided among so many
PART = 256  # keys that a part of a prefix has at least


@triton.jit
def _load(base, scales, key, live, key_row, scale_row, d, WIDTH: tl.constexpr, GROUP: tl.constexpr):
    """(KEYS, WIDTH) keys or values; GROUP: numbers that share a scale, 0: they have none."""
    column = tl.arange(0, WIDTH)
    inside = live[:, None] & (column[None, :] < d)
    found = tl.load(base + key[:, None] * key_row + column[None, :], mask=inside, other=0)
    if GROUP:
        at = scales + key[:, None] * scale_row + column[None, :] // GROUP
        found = found.to(tl.float32) * tl.load(at, mask=inside, other=0.0).to(tl.float32)
    return found


@triton.jit
def _scores(q, k, WIDE: tl.constexpr):
    if WIDE:
        q, k = q.to(tl.float32), k.to(tl.float32)
    return tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="tf32x3")


@triton.jit
def _fold(scores, v, q, output, top, total, WIDE: tl.constexpr):
    """Take some keys into the running softmax (arXiv 2205.14135)."""
    new = tl.maximum(top, tl.max(scores, axis=1))
    weight = tl.exp(scores - new[:, None])
    shrink = tl.exp(top - new)
    total = total * shrink + tl.sum(weight, axis=1)
    output = output * shrink[:, None]
    if WIDE:
        output = tl.dot(weight, v.to(tl.float32), output, input_precision="tf32x3")
    else:
        output = tl.dot(weight.to(q.dtype), v.to(q.dtype), output)
    return output, new, total


@triton.jit
def prefix_attention_kernel(
    q, keys, values, key_scales, value_scales, bias, own_keys, own_values, mask, out, parts,
    t, m, s, d, groups, scale, chunk, q_head, q_row, key_head, key_row, value_head, value_row,
    key_scale_head, key_scale_row, value_scale_head, value_scale_row, bias_head,
    own_key_head, own_key_row, own_value_head, own_value_row, mask_row,
    BIAS: tl.constexpr, MASK: tl.constexpr, PARTS: tl.constexpr, WIDE: tl.constexpr,
    GROUP: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Some queries of one KV head over a part of the prefix; the last part has the own tokens."""
    head, part = tl.program_id(0), tl.program_id(2)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    live_row = row < groups * t
    query_head, token = head * groups + row // t, row % t
    column = tl.arange(0, WIDTH)
    inside = live_row[:, None] & (column[None, :] < d)
    at = query_head[:, None] * q_head + token[:, None] * q_row + column[None, :]
    queries = tl.load(q + at, mask=inside, other=0.0)
    output = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    top = tl.full((ROWS,), -1e38, dtype=tl.float32)  # finite: all keys of a part may be masked
    total = tl.zeros((ROWS,), dtype=tl.float32)
    for start in range(part * chunk, min((part + 1) * chunk, m), KEYS):
        key = start + tl.arange(0, KEYS)
        live = key < m
        k = _load(
            keys + head * key_head, key_scales + head * key_scale_head, key, live,
            key_row, key_scale_row, d, WIDTH, GROUP,
        )  # fmt: skip
        v = _load(
            values + head * value_head, value_scales + head * value_scale_head, key, live,
            value_row, value_scale_row, d, WIDTH, GROUP,
        )  # fmt: skip
        scores = _scores(queries, k, WIDE) * scale
        if BIAS:
            b = tl.load(bias + head * bias_head + key, mask=live, other=0.0)
            scores += b.to(tl.float32)[None, :]
        scores = tl.where(live[None, :], scores, float("-inf"))
        output, top, total = _fold(scores, v, queries, output, top, total, WIDE)
    for start in range(0, s if part == PARTS - 1 else 0, KEYS):
        key = start + tl.arange(0, KEYS)
        live = key < s
        k = _load(
            own_keys + head * own_key_head, key_scales, key, live, own_key_row, 0, d, WIDTH, 0
        )
        v = _load(
            own_values + head * own_value_head, key_scales, key, live, own_value_row, 0, d,
            WIDTH, 0,
        )  # fmt: skip
        scores = _scores(queries, k, WIDE) * scale
        if MASK:
            hidden = tl.load(
                mask + token[:, None] * mask_row + key[None, :],
                mask=live_row[:, None] & live[None, :], other=0.0,
            )  # fmt: skip
            scores += hidden.to(tl.float32)
        scores = tl.where(live[None, :], scores, float("-inf"))
        output, top, total = _fold(scores, v, queries, output, top, total, WIDE)
    place = query_head * t + token
    if PARTS == 1:
        output = output / tl.where(total > 0, total, 1.0)[:, None]
        tl.store(
            out + place[:, None] * d + column[None, :], output.to(out.dtype.element_ty), inside
        )
    else:
        rows = tl.num_programs(0) * groups * t
        base = parts + (part * rows + place) * (d + 2)
        tl.store(base[:, None] + column[None, :], output, inside)
        tl.store(base + d, top, live_row)
        tl.store(base + d + 1, total, live_row)


@triton.jit
def join_kernel(parts, out, rows, d, count, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    """One query's output from those of the prefix's parts."""
    row = tl.program_id(0)
    part, column = tl.arange(0, PARTS), tl.arange(0, WIDTH)
    live, inside = part < count, column < d
    base = parts + (part * rows + row) * (d + 2)
    top = tl.load(base + d, mask=live, other=-1e38)
    total = tl.load(base + d + 1, mask=live, other=0.0)
    weight = tl.exp(top - tl.max(top, axis=0))
    outputs = tl.load(
        base[:, None] + column[None, :], mask=live[:, None] & inside[None, :], other=0.0
    )
    whole = tl.sum(total * weight, axis=0)
    joined = tl.sum(outputs * weight[:, None], axis=0) / tl.where(whole > 0, whole, 1.0)
    tl.store(out + row * d + column, joined.to(out.dtype.element_ty), mask=inside)


def prefix_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    own_keys: torch.Tensor,
    own_values: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    key_scales: torch.Tensor | None = None,
    value_scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """See ``ops.prefix_attention``; each tensor's last dimension contiguous."""
    (heads, t, d), (kv_heads, m, _), s = q.shape, keys.shape, own_keys.shape[1]
    present = [x for x in (bias, mask, key_scales, value_scales) if x is not None]
    check(heads % kv_heads == 0, "query heads are a multiple of KV heads.")
    check(values.shape == keys.shape == (kv_heads, m, d), "keys and values are (H_kv, m, d).")
    check(own_values.shape == own_keys.shape == (kv_heads, s, d), "own ones are (H_kv, s, d).")
    check(bias is None or bias.shape == (kv_heads, m), "β is (H_kv, m).")
    check(mask is None or mask.shape == (t, s), "the mask is (t, s).")
    check(
        all(x.stride(-1) == 1 for x in (q, keys, values, own_keys, own_values, *present)),
        "each tensor's last dimension is contiguous.",
    )
    group = _group(keys, key_scales, value_scales)
    out = torch.empty((heads, t, d), dtype=q.dtype, device=q.device)
    if not out.numel():
        return out
    groups = heads // kv_heads
    rows = min(64, power_of_2(groups * t))
    blocks = triton.cdiv(groups * t, rows)
    count = max(1, min(triton.cdiv(m, PART), PROGRAMS // (kv_heads * blocks)))
    chunk = triton.cdiv(triton.cdiv(m, count), KEYS) * KEYS if m else KEYS
    size = count * heads * t * (d + 2) if count > 1 else 0
    parts = torch.empty(size, dtype=torch.float32, device=q.device)
    scales = (key_scales, value_scales) if group else (keys, values)
    assert scales[0] is not None
    assert scales[1] is not None
    prefix_attention_kernel[(kv_heads, blocks, count)](
        q, keys, values, *scales, q if bias is None else bias, own_keys, own_values,
        q if mask is None else mask, out, parts, t, m, s, d, groups, scale, chunk,
        *q.stride()[:2], *keys.stride()[:2], *values.stride()[:2], *scales[0].stride()[:2],
        *scales[1].stride()[:2], 0 if bias is None else bias.stride(0), *own_keys.stride()[:2],
        *own_values.stride()[:2], 0 if mask is None else mask.stride(0),
        BIAS=bias is not None, MASK=mask is not None, PARTS=count, WIDE=widened(q.dtype),
        GROUP=group, ROWS=rows, KEYS=KEYS, WIDTH=power_of_2(d), num_warps=4, num_stages=2,
    )  # fmt: skip
    if count > 1:
        join_kernel[(heads * t,)](
            parts, out, heads * t, d, count, PARTS=power_of_2(count, 2), WIDTH=power_of_2(d)
        )
    return out


def _group(
    keys: torch.Tensor, key_scales: torch.Tensor | None, value_scales: torch.Tensor | None
) -> int:
    """Numbers that share a scale; 0: keys and values have none."""
    if keys.dtype != torch.int8:
        return 0
    assert key_scales is not None, "8-bit keys have scales"
    assert value_scales is not None, "and so have values"
    check(key_scales.shape == value_scales.shape, "keys and values have as many scales.")
    check(key_scales.shape[:2] == keys.shape[:2], "scales are (H_kv, m, d/group).")
    return keys.shape[2] // key_scales.shape[2]
