"""A low-rank weight patch: what is added to W_down of some layers while it is attached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from pcompiler.model import LanguageModel
from pcompiler.ops import add_low_rank


@dataclass(frozen=True)
class Delta:
    """ΔW = b a and a bias, for one layer's W_down.

    Attributes:
        a: (r, d_ff).
        b: (d, r).
        bias: (d,).
    """

    a: torch.Tensor
    b: torch.Tensor
    bias: torch.Tensor

    @property
    def rank(self) -> int:
        """R."""
        return self.a.shape[0]

    def __call__(self, u: torch.Tensor) -> torch.Tensor:
        """What is added to W_down u; (…, d_ff) → (…, d), in u's dtype."""
        a, b, bias = (t.to(u.dtype) for t in (self.a, self.b, self.bias))
        return (u @ a.T) @ b.T + bias

    def levelled(self) -> Delta:
        """The same product b a, with factors of one size: so both keep their bits when rounded."""
        a, b = self.a.float().norm(), self.b.float().norm()
        level = (a / b.clamp_min(1e-12)).sqrt().clamp_min(1e-12)
        return Delta(self.a / level, self.b * level, self.bias)

    def times(self, strength: float) -> Delta:
        """The same, scaled."""
        return Delta(self.a * strength, self.b, self.bias * strength)


@dataclass(frozen=True)
class Patch:
    """Deltas by layer; layers that are left out stay as they are."""

    deltas: Mapping[int, Delta]

    def times(self, strength: float) -> Patch:
        """The same patch at a strength from 0 (nothing) to 1."""
        return replace(self, deltas={i: d.times(strength) for i, d in self.deltas.items()})

    def to(self, device: torch.device, dtype: torch.dtype) -> Patch:
        """The same patch elsewhere or in another precision."""

        def move(t: torch.Tensor) -> torch.Tensor:
            return t.to(device=device, dtype=dtype)

        moved = {i: Delta(move(d.a), move(d.b), move(d.bias)) for i, d in self.deltas.items()}
        return replace(self, deltas=moved)


@contextmanager
def patched(model: LanguageModel, patch: Patch | None) -> Iterator[None]:
    """Inside, the model computes with W + ΔW. Patches stack; weights are never written to."""

    def hook(delta: Delta) -> Callable[..., torch.Tensor]:
        def add(_module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
            return add_low_rank(output, arguments[0], delta.a, delta.b, delta.bias)

        return add

    with ExitStack() as stack:
        for layer, delta in patch.deltas.items() if patch else ():
            linear = model.hf.model.layers[layer].mlp.down_proj
            stack.enter_context(linear.register_forward_hook(hook(delta)))
        yield
