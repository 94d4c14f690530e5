"""One layer's static patch: λ, and whether there is one at all, chosen on validation rows.

    ΔW_down = Tᵀ U (UᵀU + λ s I)⁻¹,  s = tr(UᵀU)/d_ff   (arXiv 2510.08734, as ridge regression)

about the rows' means, so that the bias is free of the penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pcompiler.dynamics.lowrank import truncate
from pcompiler.dynamics.moments import Fit, Moments
from pcompiler.runtime.patch import Delta

FEWER = 4
RIDGES = (0.1, 0.3, 1.0, 3.0)


@dataclass
class Ridge:
    """Solves layer after layer; λ moves by at most one place of the grid from a layer to the next.

    Attributes:
        ranks: of each layer's patch at most; 0: no patch.
        ridges: λ to choose from, ascending.
        energies: of each solved layer (r,), the fitted outputs' variance along each direction.
    """

    ranks: Sequence[int]
    ridges: tuple[float, ...] = RIDGES
    energies: list[torch.Tensor] = field(default_factory=list)
    _at: int = 1
    _towards: int = 1

    def __call__(self, layer: int, fitting: Moments, validation: Moments) -> Delta | None:
        """The delta at the λ with the least validation error; none where that is no gain."""
        if not self.ranks[layer]:
            return None
        gram, rhs = fitting.centred()
        x = self._search(gram, rhs, fitting, validation)
        a, b = truncate(x, gram, self.ranks[layer])
        self.energies.append(((a @ gram) * a).sum(1))
        if not validation.weight:
            return Delta(a, b, fitting.bias(a.T @ b.T))
        # Fewer directions are another way to hold back: the rows that were not fitted decide.
        ranks = sorted({len(a), max(1, len(a) // FEWER)}, reverse=True)
        fits = {rank: self._fit(a[:rank], b[:, :rank], fitting, validation) for rank in ranks}
        rank = min(ranks, key=lambda r: fits[r].error(fits[r].strength))
        a, b, strength = a[:rank], b[:, :rank], fits[rank].strength
        bias = fitting.bias(a.T @ b.T)
        return Delta(a * strength, b, bias * strength) if strength > 0 else None

    def _fit(self, a: torch.Tensor, b: torch.Tensor, fitting: Moments, validation: Moments) -> Fit:
        x = a.T @ b.T
        return validation.fit(x, fitting.bias(x))

    def _search(
        self, gram: torch.Tensor, rhs: torch.Tensor, fitting: Moments, validation: Moments
    ) -> torch.Tensor:
        """The better of the last layer's λ and one beside it; two solutions a layer."""
        here = _solve(gram, rhs, self.ridges[self._at])
        beside = self._at + self._towards
        if not validation.weight:
            return here
        if not 0 <= beside < len(self.ridges):
            self._towards *= -1
            beside = self._at + self._towards
        there = _solve(gram, rhs, self.ridges[beside])

        def error(x: torch.Tensor) -> float:
            fit = validation.fit(x, fitting.bias(x))
            return fit.error(fit.strength)

        if error(there) < error(here):
            self._at = beside
            return there
        self._towards *= -1
        return here


def _solve(gram: torch.Tensor, rhs: torch.Tensor, ridge: float) -> torch.Tensor:
    damped = gram.clone()
    damped.diagonal().add_(ridge * gram.diagonal().mean())
    return torch.cholesky_solve(rhs, torch.linalg.cholesky(damped))


def shared_ranks(energies: Sequence[torch.Tensor], directions: int) -> list[int]:
    """How many of so many directions each layer gets: wherever the fitted outputs vary most.

    Rows are weighted by 1/‖y‖², so energies are shares of the stream, alike in every layer.
    """
    layers = torch.cat([torch.full((len(e),), i) for i, e in enumerate(energies)])
    best = torch.cat(list(energies)).topk(min(directions, len(layers))).indices
    return torch.bincount(layers[best], minlength=len(energies)).tolist()
