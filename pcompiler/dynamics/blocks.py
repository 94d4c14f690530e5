"""One decoder block in the steps that the mathematics needs, the same for every family.

    h → project → q, k, v → attention → joined → r = h + post(W_o joined)
    r → features → u → y = r + post(W_down u)

``post`` is the norm that Gemma 2 and 3 have after each sub-layer; elsewhere it is nothing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch

from pcompiler.dynamics.states import norm_before_mlp
from pcompiler.model import LanguageModel
from pcompiler.runtime.in_place import window_of


@dataclass(frozen=True)
class Attended:
    """Queries, keys and values of some tokens in one layer, rotated to their positions.

    Attributes:
        q: (H, t, d_head).
        k: (H_kv, t, d_head).
        v: (H_kv, t, d_head).
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor

    def flat(self) -> torch.Tensor:
        """All three token by token, (t, (H + 2·H_kv)·d_head), for a stream."""
        return torch.cat([self.q, self.k, self.v]).transpose(0, 1).flatten(1)

    @classmethod
    def from_flat(cls, flat: torch.Tensor, heads: int, kv_heads: int) -> Attended:
        """Undo ``flat``."""
        apart = flat.view(len(flat), heads + 2 * kv_heads, -1).transpose(0, 1)
        return cls(*torch.split(apart, [heads, kv_heads, kv_heads]))


class Block:
    """A view of one transformers decoder layer; computes what the layer computes, step by step.

    Args:
        model: the language model.
        index: which layer, from 0.
    """

    def __init__(self, model: LanguageModel, index: int) -> None:
        self.layer: Any = model.hf.model.layers[index]
        self._attention: Any = self.layer.self_attn
        self._rotate: Any = sys.modules[type(self._attention).__module__].apply_rotary_pos_emb
        self._after_both = hasattr(self.layer, "pre_feedforward_layernorm")
        self.kind: str | None = getattr(self._attention, "layer_type", None)
        self.window = window_of(model, self._attention)
        self.scaling: float = self._attention.scaling
        self.softcap: float | None = getattr(self._attention, "attn_logit_softcapping", None)

    def project(self, h: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> Attended:
        """(t, d) stream and its (cos, sin) → queries, keys, values."""
        attention = self._attention
        x = self.layer.input_layernorm(h[None])

        def heads(y: torch.Tensor) -> torch.Tensor:
            return y.view(1, len(h), -1, attention.head_dim).transpose(1, 2)

        q, k, v = heads(attention.q_proj(x)), heads(attention.k_proj(x)), heads(attention.v_proj(x))
        if hasattr(attention, "q_norm"):
            q, k = attention.q_norm(q), attention.k_norm(k)
        q, k = self._rotate(q, k, *rotary)
        return Attended(q[0], k[0], v[0])

    def logits(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """(H, t, d_head) queries against (H_kv, s, d_head) keys → (H, t, s) logits, float32.

        As fused attention has them within: in bfloat16 a logit of 20 would be off by 0.06.
        """
        groups = q.shape[0] // k.shape[0]
        scaled = q.float() * self.scaling
        folded = scaled.reshape(k.shape[0], groups * q.shape[1], q.shape[2])
        s = (folded @ k.float().transpose(1, 2)).view(q.shape[0], q.shape[1], k.shape[1])
        return s if self.softcap is None else torch.tanh(s / self.softcap) * self.softcap

    def mix(self, h: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The stream after attention, from W_o's output ``attended``: (t, d)."""
        if self._after_both:
            attended = self.layer.post_attention_layernorm(attended)
        return h + attended

    def project_out(self, joined: torch.Tensor) -> torch.Tensor:
        """(t, H·d_head) of any precision → W_o's output, (t, d)."""
        out: torch.Tensor = self._attention.o_proj(joined.to(self._attention.o_proj.weight.dtype))
        return out

    def output_gram(self) -> torch.Tensor:
        """(H, d_head, d_head), WᵀW of each head's part of W_o: lengths of what it writes."""
        weight: torch.Tensor = self._attention.o_proj.weight.float()
        parts = weight.view(len(weight), -1, self._attention.head_dim).transpose(0, 1)
        return parts.transpose(1, 2) @ parts

    def features(self, r: torch.Tensor) -> torch.Tensor:
        """The input of W_down: (t, d) → (t, d_ff)."""
        mlp = self.layer.mlp
        z = norm_before_mlp(self.layer)(r)
        u: torch.Tensor = mlp.act_fn(mlp.gate_proj(z)) * mlp.up_proj(z)
        return u

    def down(self, u: torch.Tensor) -> torch.Tensor:
        """(t, d_ff) → W_down's output, (t, d)."""
        out: torch.Tensor = self.layer.mlp.down_proj(u)
        return out

    def finish(self, r: torch.Tensor, downed: torch.Tensor) -> torch.Tensor:
        """The block's output, from W_down's output ``downed``: (t, d)."""
        if self._after_both:
            downed = self.layer.post_feedforward_layernorm(downed)
        return r + downed

    def after(self, r: torch.Tensor) -> torch.Tensor:
        """The block's output from the stream after attention, both (t, d)."""
        return self.finish(r, self.down(self.features(r)))

    def missing(self, wanted: torch.Tensor, r: torch.Tensor, downed: torch.Tensor) -> torch.Tensor:
        """What W_down's output lacks for the block's output to become ``wanted``: (t, d), float32.

        With a norm after the MLP only the direction is free: the wanted increment is taken back
        through the norm's weight, at the length that W_down's output has.
        """
        gain, own = wanted.float() - r.float(), downed.float()
        if not self._after_both:
            return gain - own
        weight: torch.Tensor = self.layer.post_feedforward_layernorm(torch.ones_like(downed[:1]))
        return gain / weight.float() * own.square().mean(-1, keepdim=True).sqrt() - own


def embed(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Token ids → the stream before the first block, (t, d); family scales included."""
    h: torch.Tensor = model.hf.model.embed_tokens(model.tensor(ids))[0]
    return h


def unembed(model: LanguageModel, h: torch.Tensor) -> torch.Tensor:
    """(t, d) stream after the last block → (t, V) logits, float32; family caps included."""
    return to_logits(model, model.hf.model.norm(h))


def to_logits(model: LanguageModel, normed: torch.Tensor) -> torch.Tensor:
    """(t, d) stream after the last norm → (t, V) logits, float32; family caps included."""
    logits = model.hf.lm_head(normed).float()
    cap = getattr(model.hf.config, "final_logit_softcapping", None)
    capped: torch.Tensor = logits if cap is None else torch.tanh(logits / cap) * cap
    return capped


def rotary(
    model: LanguageModel, block: Block, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(cos, sin) of some positions, for the kind of layer that the block is."""
    inner = model.hf.model
    like = torch.empty(1, 1, dtype=model.device.dtype, device=model.device.handle)
    at = positions[None].to(model.device.handle)
    if model.card.family == "gemma3_text":
        return inner.rotary_emb(like, at, block.kind)  # type: ignore[no-any-return]
    return inner.rotary_emb(like, at)  # type: ignore[no-any-return]
