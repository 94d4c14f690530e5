"""One layer's static patch: λ, and whether there is one at all, chosen on validation rows.

    ΔW_down = Tᵀ U (UᵀU + λ s I)⁻¹,  s = tr(UᵀU)/d_ff   (arXiv 2510.08734, as ridge regression)

about the rows' means, so that the bias is free of the penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pcompiler import meter
from pcompiler.device import at_home
from pcompiler.dynamics.lowrank import project
from pcompiler.dynamics.moments import Moments
from pcompiler.ranges import ranged
from pcompiler.runtime.patch import Delta

REST = 2  # layers after a search in vain: a λ beside the last costs a second solution
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass
class Ridge:
    """Solves layer after layer; λ moves by one place of the grid at most, while it pays.

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
    _rest: int = 0

    @meter.timed("patch_layer_seconds")
    def __call__(self, layer: int, fitting: Moments, validation: Moments) -> Delta | None:
        """The delta at the λ with the least validation error; none where that is no gain."""
        if not self.ranks[layer]:
            return None
        gram, rhs = fitting.centred()
        x = self._search(gram, rhs, fitting, validation)
        # (G + λsI) X = B, so G X is known without multiplying again.
        covariance = x.T @ (rhs - self._penalty(gram) * x)
        a, b = project(x, covariance, self.ranks[layer])
        self.energies.append(((b.T @ covariance) * b.T).sum(1))
        if not validation.weight:
            return Delta(a, b, fitting.bias(a.T @ b.T))
        # Fewer directions are another way to hold back: the rows that were not fitted decide.
        fits = validation.fits(a, b, fitting)
        rank = int(fits.error(fits.strength).argmin()) + 1
        a, b, strength = a[:rank], b[:, :rank], float(fits.strength[rank - 1])
        bias = fitting.bias(a.T @ b.T)
        return Delta(a * strength, b, bias * strength) if strength > 0 else None

    def _search(
        self, gram: torch.Tensor, rhs: torch.Tensor, fitting: Moments, validation: Moments
    ) -> torch.Tensor:
        """At the last layer's λ, or one beside it, if that is better."""
        here = _solve(gram, rhs, self._penalty(gram))
        if not validation.weight or self._rest > 0:
            self._rest -= 1
            return here
        before, beside = self._at, self._at + self._towards
        if not 0 <= beside < len(self.ridges):
            self._towards *= -1
            beside = self._at + self._towards
        self._at = beside
        there = _solve(gram, rhs, self._penalty(gram))

        def error(x: torch.Tensor) -> float:
            fit = validation.fit(x, fitting.bias(x))
            return float(fit.error(fit.strength))

        if error(there) < error(here):
            return there
        self._at, self._towards = before, -self._towards
        self._rest = REST
        return here

    def _penalty(self, gram: torch.Tensor) -> torch.Tensor:
        return self.ridges[self._at] * gram.diagonal().mean()


@ranged("solver Cholesky")
def _solve(gram: torch.Tensor, rhs: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    damped = gram.clone()
    damped.diagonal().add_(penalty)
    factor = at_home(torch.linalg.cholesky, damped)
    solution: torch.Tensor = at_home(torch.cholesky_solve, rhs, factor)
    return solution


def shared_ranks(energies: Sequence[torch.Tensor], directions: int) -> list[int]:
    """How many of so many directions each layer gets: wherever the fitted outputs vary most.

    Rows are weighted by 1/‖y‖², so energies are shares of the stream, alike in every layer.
    """
    layers = torch.cat([torch.full((len(e),), i) for i, e in enumerate(energies)])
    best = torch.cat(list(energies)).topk(min(directions, len(layers))).indices
    return torch.bincount(layers[best], minlength=len(energies)).tolist()
