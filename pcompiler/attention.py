"""Attention of many short texts after one prefix: each token sees the prefix and its own text.

A mask over all texts would multiply every token with those of all the others; here a table tells
which ones it sees. Two operations, each plain torch and C++ (``kernels/cpp/attention.cpp``); on an
accelerator torch gathers for each token what it sees, where that is little of what is there.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import threshold

from pcompiler.device import on_host
from pcompiler.kernels.compiled import library
from pcompiler.kernels.op import Op

LEAST_WEIGHT = 1e-12  # of attention: denormals multiply 30 times slower, and are as good as zero
MOST_SEEN = 256  # own tokens; past them the host is faster with a product of all of them
GATHERED_SHARE = 4  # one of so many own tokens is seen, or fewer: a copy of those for each token
MOST_GATHERED = 2**27  # numbers of such a copy, 512 MB; past them a product of all takes less

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Scene:
    """What some tokens' queries meet.

    Attributes:
        keys: (H_kv, m, d) of the prefix.
        values: (H_kv, m, d).
        own_keys: (H_kv, n, d) of the tokens after the prefix.
        own_values: (H_kv, n, d).
        seen: (t, s) int32, the numbers of those after the prefix that each token sees: its own
            first, then back in time, then −1. So a sliding window is the table's first columns.
        scale: of the logits.
        bias: (1, H_kv or H; 1 or t; m), added to the prefix's logits.
        softcap: c of c·tanh(logit/c); none: logits stay as they are.
    """

    keys: torch.Tensor
    values: torch.Tensor
    own_keys: torch.Tensor
    own_values: torch.Tensor
    seen: torch.Tensor
    scale: float
    bias: torch.Tensor | None = None
    softcap: float | None = None

    @property
    def hidden(self) -> torch.Tensor:
        """(t, n) booleans: which own keys are not in a token's row of the table."""
        n, seen = self.own_keys.shape[1], self.seen.long()
        out = torch.ones(len(seen), n + 1, dtype=torch.bool, device=seen.device)
        return out.scatter_(1, seen.masked_fill(seen < 0, n), value=False)[:, :n]

    def logits(self, q: torch.Tensor) -> Pair:
        """(H, t, m) and (H, t, n): against the prefix and against own keys; −∞ is not seen."""
        own = self._capped(self.products(q, self.own_keys))
        return self.before(q), own.masked_fill_(self.hidden, -math.inf)

    def before(self, q: torch.Tensor) -> torch.Tensor:
        """(H, t, m): against the prefix."""
        logits = self._capped(self.products(q, self.keys))
        if self.bias is not None:
            logits += self.bias.repeat_interleave(len(q) // len(self.bias), dim=0)
        return logits

    def gathered(self, own: torch.Tensor) -> torch.Tensor:
        """(H_kv, n, d) of own tokens → (H_kv, t, s, d), those that each token sees; float32."""
        return own[:, self.seen.long().clamp_min(0)].float()

    def own_gathered(self, q: torch.Tensor) -> torch.Tensor:
        """(H, t, s): against the own keys that each token sees, in the table's order."""
        folded = (q.float() * self.scale).view(len(self.own_keys), -1, *q.shape[1:])
        products = torch.einsum("hgtd,htsd->hgts", folded, self.gathered(self.own_keys))
        logits = self._capped(products.reshape(*q.shape[:2], self.seen.shape[1]))
        return logits.masked_fill(self.seen < 0, -math.inf)

    def _capped(self, s: torch.Tensor) -> torch.Tensor:
        return s if self.softcap is None else torch.tanh(s / self.softcap) * self.softcap

    def products(self, q: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """(H, t, s) scaled products of (H, t, d) queries with (H_kv, s, d) keys."""
        folded = (q.float() * self.scale).reshape(len(keys), -1, q.shape[2])
        return (folded @ keys.float().transpose(1, 2)).view(*q.shape[:2], keys.shape[1])


@Op
def attend(q: torch.Tensor, scene: Scene) -> Pair:
    """(H, t, d) queries → (H, t, d) output, and (H, t, m) weights on the prefix's keys: float32.

    Weights up to ``LEAST_WEIGHT`` are 0.
    """
    both = torch.cat(scene.logits(q), dim=-1)
    weights = threshold(both.softmax(-1), LEAST_WEIGHT, 0.0)
    values = torch.cat([scene.values, scene.own_values], dim=1).float()
    folded = weights.view(len(values), -1, values.shape[1])
    return (folded @ values).view(q.shape), weights[..., : scene.keys.shape[1]]


@Op
def log_masses(q: torch.Tensor, scene: Scene) -> Pair:
    """(H, t, d) queries → (H, t) ln Σ e^logit over the prefix, and over own keys."""
    before, own = scene.logits(q)
    return before.logsumexp(-1), own.logsumexp(-1)


def _attend_gathered(q: torch.Tensor, scene: Scene) -> Pair:
    both = torch.cat([scene.before(q), scene.own_gathered(q)], dim=-1)
    weights = threshold(both.softmax(-1), LEAST_WEIGHT, 0.0)
    m, heads, (t, s) = scene.keys.shape[1], len(scene.keys), scene.seen.shape
    before, own = weights[..., :m], weights[..., m:].reshape(heads, -1, t, s)
    output = torch.einsum("hgts,htsd->hgtd", own, scene.gathered(scene.own_values)).reshape(q.shape)
    folded = before.reshape(heads, len(q) // heads * t, m) @ scene.values.float()
    return output + folded.view(q.shape), before


def _mass_gathered(q: torch.Tensor, scene: Scene) -> Pair:
    return scene.before(q).logsumexp(-1), scene.own_gathered(q).logsumexp(-1)


class _Sizes(ctypes.Structure):
    """``Sizes`` of cpp/attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("heads", "kv_heads", "tokens", "before", "width")),
        *((name, ctypes.c_int64) for name in ("seen", "key_head", "key_token")),
        *((name, ctypes.c_int64) for name in ("bias_heads", "bias_tokens")),
        *((name, ctypes.c_float) for name in ("softcap", "least")),
        ("threads", ctypes.c_int32),
    )


def _takes(q: torch.Tensor, scene: Scene) -> bool:
    return scene.seen.shape[1] <= MOST_SEEN and all(
        on_host(t) and t.dtype == torch.float32 and not _learns(t) for t in _tensors(q, scene)
    )


def _takes_gathered(q: torch.Tensor, scene: Scene) -> bool:
    heads, own, width = scene.own_keys.shape
    few = scene.seen.shape[1] * GATHERED_SHARE <= own
    few = few and scene.seen.numel() * heads * width <= MOST_GATHERED
    return few and not any(on_host(t) or _learns(t) for t in _tensors(q, scene))


def _learns(t: torch.Tensor) -> bool:
    return t.requires_grad and torch.is_grad_enabled()


def _tensors(q: torch.Tensor, scene: Scene) -> list[torch.Tensor]:
    every = (q, scene.keys, scene.values, scene.own_keys, scene.own_values, scene.bias)
    return [t for t in every if t is not None]


class _Kernel(Protocol):
    def __call__(self, q: torch.Tensor, scene: Scene) -> Pair: ...


def _compiled(name: str, rows: Callable[..., Pair]) -> _Kernel:
    """The kernel of this name, around which ``rows`` allocates and multiplies."""
    kernel = getattr(library("attention"), name)
    kernel.restype = None

    def run(q: torch.Tensor, scene: Scene) -> Pair:
        q = (q * scene.scale).contiguous()
        own = scene.own_keys, scene.own_values
        if own[0].stride() != own[1].stride() or own[0].stride(2) != 1:
            own = own[0].contiguous(), own[1].contiguous()
        heads, tokens, width = q.shape
        folded = q.view(len(scene.keys), -1, width)
        before = (folded @ scene.keys.transpose(1, 2)).view(heads, tokens, scene.keys.shape[1])
        seen = scene.seen.contiguous()
        bias = None if scene.bias is None else scene.bias.contiguous()
        sizes = _Sizes(
            *(heads, len(scene.keys), tokens, before.shape[2], width),
            *(seen.shape[1], own[0].stride(0), own[0].stride(1)),
            *((1, 1) if bias is None else bias.shape[:2]),
            *(scene.softcap or 0.0, LEAST_WEIGHT, torch.get_num_threads()),
        )

        def call(*tensors: torch.Tensor | None) -> None:
            pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
            kernel(ctypes.byref(sizes), *pointers)

        return rows(call, scene, before, bias, q, own, seen)

    return run


def _attend_rows(
    call: Callable[..., None],
    scene: Scene,
    before: torch.Tensor,
    bias: torch.Tensor | None,
    q: torch.Tensor,
    own: Pair,
    seen: torch.Tensor,
) -> Pair:
    output = torch.empty_like(q)
    call(before, bias, q, *own, seen, output)
    h = len(scene.values)
    rows = output.shape[0] // h * output.shape[1]
    weights = before.view(h, rows, before.shape[2])
    output.view(h, rows, output.shape[2]).baddbmm_(weights, scene.values)
    return output, before


def _mass_rows(
    call: Callable[..., None],
    _scene: Scene,
    before: torch.Tensor,
    bias: torch.Tensor | None,
    q: torch.Tensor,
    own: Pair,
    seen: torch.Tensor,
) -> Pair:
    whole, mass = q.new_empty(q.shape[:2]), q.new_empty(q.shape[:2])
    call(before, bias, q, own[0], seen, whole, mass)
    return whole, mass


attend.faster("cpp", _takes, lambda: _compiled("attend", _attend_rows))
log_masses.faster("cpp", _takes, lambda: _compiled("log_masses", _mass_rows))
attend.faster("gathered", _takes_gathered, lambda: _attend_gathered)
log_masses.faster("gathered", _takes_gathered, lambda: _mass_gathered)
