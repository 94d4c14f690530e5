"""One layer's static patch: λ, and whether there is one at all, chosen on validation rows.

    ΔW_down = Tᵀ U (UᵀU + λ s I)⁻¹,  s = tr(UᵀU)/d_ff   (arXiv 2510.08734, as ridge regression)

about the rows' means, so that the bias is free of the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pcompiler.dynamics.lowrank import truncate
from pcompiler.dynamics.moments import Moments
from pcompiler.runtime.patch import Delta

RIDGES = (0.1, 0.3, 1.0, 3.0)


@dataclass
class Ridge:
    """Solves layer after layer; starts each at the λ that served the layer before.

    Attributes:
        rank: of each layer's patch at most.
        ridges: λ to choose from, ascending.
    """

    rank: int
    ridges: tuple[float, ...] = RIDGES
    _last: int = 1

    def __call__(self, fitting: Moments, validation: Moments) -> Delta | None:
        """The delta at the λ with the least validation error; none where that is no gain."""
        gram, rhs = fitting.centred()
        x = self._search(gram, rhs, fitting, validation)
        a, b = truncate(x, gram, self.rank)
        bias = fitting.bias(a.T @ b.T)
        strength = validation.fit(a.T @ b.T, bias).strength if validation.weight else 1.0
        return Delta(a * strength, b, bias * strength) if strength > 0 else None

    def _search(
        self, gram: torch.Tensor, rhs: torch.Tensor, fitting: Moments, validation: Moments
    ) -> torch.Tensor:
        """Downhill over the grid of λ from the last layer's: two or three solutions, not all."""
        tried: dict[int, tuple[float, torch.Tensor]] = {}

        def error(i: int) -> float:
            if not 0 <= i < len(self.ridges):
                return float("inf")
            if i not in tried:
                x = _solve(gram, rhs, self.ridges[i])
                fit = validation.fit(x, fitting.bias(x))
                tried[i] = fit.error(fit.strength), x
            return tried[i][0]

        i = min(self._last, len(self.ridges) - 1)
        if not validation.weight:
            return _solve(gram, rhs, self.ridges[i])
        while True:
            best = min((i, i - 1, i + 1), key=error)
            if best == i:
                break
            i = best
        self._last = i
        return tried[i][1]


def _solve(gram: torch.Tensor, rhs: torch.Tensor, ridge: float) -> torch.Tensor:
    damped = gram.clone()
    damped.diagonal().add_(ridge * gram.diagonal().mean())
    return torch.cholesky_solve(rhs, torch.linalg.cholesky(damped))
