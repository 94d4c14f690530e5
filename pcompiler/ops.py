"""The hot operations, one function each: plain torch, and a faster path where it is proved faster.

Which one runs, and why, is told by ``Op.chosen``; ``PCOMPILER_CHECK=1`` compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from pcompiler.codec.tensors import scaled
from pcompiler.device import on_cuda
from pcompiler.kernels.op import Op, Unavailable

FEW_ROWS = 64  # of a product, that are read more than they are computed with
MOST_RANK = 128  # of a patch whose factors a program can hold
MOST_INPUTS = 4096  # of a patched layer: of 14,336 one program takes longer than torch's four
MOST_WIDTH = 256  # of a head
MOST_UNKNOWNS = 256  # of a least-squares problem that one program solves: 2.3 × faster on an
# H200; at 500 torch is the faster one


def gram(inputs: torch.Tensor, blocks: int = 4) -> torch.Tensor:
    """UᵀU (k, k) of inputs U (N, k), in their dtype; exactly symmetric.

    Only blocks on and above the diagonal are multiplied: with b blocks (b + 1)/2b of the 2·N·k²
    operations. torch has no syrk, and smaller blocks run slower than what they save.
    """
    k = inputs.shape[1]
    edges = [k * i // blocks for i in range(blocks + 1)]
    out = inputs.new_empty((k, k))
    for i in range(blocks):
        rows = slice(edges[i], edges[i + 1])
        out[rows, edges[i] :] = inputs[:, rows].T @ inputs[:, edges[i] :]
    return torch.triu(out) + torch.triu(out, 1).T


@Op
def weighted_sums(
    uu: torch.Tensor, ut: torch.Tensor, u: torch.Tensor, t: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of a least-squares problem with more rows in them.

    Args:
        uu: (k, k), float32, symmetric.
        ut: (k, d), float32.
        u: (n, k) features.
        t: (n, d) targets.
        w: (n,) weights, none of them negative.

    Returns:
        uu + Σ w u uᵀ, exactly symmetric, and ut + Σ w u tᵀ.
    """
    root = w.float().sqrt()[:, None]
    u, t = u.float() * root, t.float() * root
    return uu + gram(u), torch.addmm(ut, u.T, t)


@Op
def add_low_rank(
    out: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Out + (x aᵀ) bᵀ + bias, in x's dtype.

    Args:
        out: (…, d).
        x: (…, k).
        a: (r, k), any floating dtype.
        b: (d, r), likewise.
        bias: (d,), likewise.
    """
    a, b, bias = (f.to(x.dtype) for f in (a, b, bias))
    return out + ((x @ a.T) @ b.T + bias)


@Op
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
    """Attention of some tokens to all of a prefix, and to the tokens after it.

    Args:
        q: (H, t, d) queries; H is a multiple of H_kv.
        keys: (H_kv, m, d) of the prefix, in q's dtype, or int8 with scales.
        values: (H_kv, m, d), likewise.
        own_keys: (H_kv, s, d) of the tokens after the prefix, in q's dtype.
        own_values: (H_kv, s, d).
        scale: of the logits.
        bias: (H_kv, m) β, in q's dtype; none: zero.
        mask: (t, s), added to the logits of own keys, in q's dtype; none: all are seen.
        key_scales: (H_kv, m, d/group), float16: see ``codec.tensors.to_int8``.
        value_scales: likewise.

    Returns:
        (H, t, d).
    """
    if key_scales is not None and value_scales is not None:
        keys, values = scaled(keys, key_scales), scaled(values, value_scales)
    keys = torch.cat([keys.to(q.dtype), own_keys], dim=1)
    values = torch.cat([values.to(q.dtype), own_values], dim=1)
    added = None
    if bias is not None or mask is not None:
        shape = (len(q), q.shape[1])
        before = q.new_zeros(1, 1, keys.shape[1] - own_keys.shape[1])
        if bias is not None:
            before = bias.repeat_interleave(len(q) // len(keys), dim=0)[:, None]
        own = q.new_zeros(1, own_keys.shape[1]) if mask is None else mask
        added = torch.cat([before.expand(*shape, -1), own.expand(*shape, -1)], dim=-1)[None]
    found = scaled_dot_product_attention(
        q[None], keys[None], values[None], attn_mask=added, scale=scale, enable_gqa=True
    )
    return found[0]


@Op
def nonnegative(
    gram: torch.Tensor, rhs: torch.Tensor, start: torch.Tensor, steps: int, bounds: int
) -> torch.Tensor:
    """argmin_{w ≥ 0} wᵀGw − 2wᵀr, so many steps on: FISTA (Beck & Teboulle 2009).

    Args:
        gram: (b, m, m) G, positive definite.
        rhs: (b, m) r.
        start: (b, m) w to begin with.
        steps: how many.
        bounds: steps that bound the largest eigenvalue.
    """
    rate = 1 / largest(gram, bounds)[:, None, None]
    # One step downhill is w − ηGw + ηr; with the two constants made once it is a single product.
    step = gram * -rate
    step.diagonal(dim1=1, dim2=2).add_(1)
    towards = rate * rhs[..., None]
    w = ahead = start[..., None]
    t = 1.0
    for _ in range(steps):
        new = torch.baddbmm(towards, step, ahead).clamp_min_(0)
        t, before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        ahead, w = torch.lerp(w, new, 1 + (before - 1) / t), new
    return w[..., 0]


def largest(gram: torch.Tensor, steps: int) -> torch.Tensor:
    """(b,), no less than the largest eigenvalue of each (b, m, m) matrix; near it if none is < 0.

    For any positive x it is at most max (|G| x)_i / x_i (Collatz 1942), and x nears the
    eigenvector by which the two are equal.
    """
    sizes = gram.abs()
    x = torch.ones_like(gram[..., :1])
    top = torch.full_like(gram[..., 0, 0], math.inf)
    for _ in range(steps):
        y = sizes @ x
        top = torch.minimum(top, (y / x).amax(dim=(1, 2)))
        x = (y / y.amax(1, keepdim=True)).clamp_min_(1e-30)
    return top


def _triton(name: str) -> Callable[[], Callable[..., Any]]:
    """Loads the launcher of the source that has its name."""

    def load() -> Callable[..., Any]:
        try:
            source = import_module(f"pcompiler.kernels.triton.{name}")
        except ImportError as e:
            raise Unavailable(f"{e}: pip install 'pcompiler[cuda]'") from None
        launcher: Callable[..., Any] = getattr(source, name)
        return launcher

    return load


def _for_triton(*tensors: torch.Tensor) -> bool:
    """Whether the kernels take such tensors: on CUDA, 32 bits at most, and no gradient wanted."""
    return all(
        on_cuda(x) and x.element_size() <= 4 and not (x.requires_grad and torch.is_grad_enabled())
        for x in tensors
    )


def _sums_on_cuda(
    uu: torch.Tensor, ut: torch.Tensor, u: torch.Tensor, t: torch.Tensor, w: torch.Tensor
) -> bool:
    return _for_triton(uu, ut, u, t, w) and u.dtype == t.dtype


def _low_rank_on_cuda(
    out: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor
) -> bool:
    few = x.numel() <= FEW_ROWS * x.shape[-1] and 0 < len(a) <= MOST_RANK
    few = few and x.shape[-1] <= MOST_INPUTS
    return few and out.dtype == x.dtype and _for_triton(out, x, a, b, bias)


def _prefix_attention_on_cuda(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *_: object, **__: object
) -> bool:
    return q.shape[1] <= FEW_ROWS and q.shape[2] <= MOST_WIDTH and _for_triton(q, keys, values)


def _nonnegative_on_cuda(
    gram: torch.Tensor, rhs: torch.Tensor, start: torch.Tensor, *_: object, **__: object
) -> bool:
    right = gram.dtype == rhs.dtype == start.dtype == torch.float32
    return right and rhs.shape[1] <= MOST_UNKNOWNS and _for_triton(gram, rhs, start)


weighted_sums.faster("triton", _sums_on_cuda, _triton("weighted_sums"))
add_low_rank.faster("triton", _low_rank_on_cuda, _triton("add_low_rank"))
prefix_attention.faster("triton", _prefix_attention_on_cuda, _triton("prefix_attention"))
nonnegative.faster("triton", _nonnegative_on_cuda, _triton("nonnegative"))
