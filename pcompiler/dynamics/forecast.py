"""How many steps gradient descent will need, from the spectrum, without taking them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import torch

from pcompiler.dynamics.system import TOLERANCE, System

MOST = 10**9  # steps that we still count


def descent_steps(
    gram: torch.Tensor,
    rhs: torch.Tensor,
    ridge: float,
    rates: Sequence[float],
    tolerance: float = TOLERANCE,
) -> list[float]:
    """Steps of ``solvers.gradient_descent`` to the tolerance, one for each rate; ∞: diverges.

    With Ã = QΛQᵀ the residual after n steps is D^½ Q (1 − ηΛ)ⁿ Qᵀ D^-½ B. Its squared norm is
    fᵀ M f with f = (1 − ηλ)ⁿ and M = (QᵀDQ) ∘ (CCᵀ), C = Qᵀ D^-½ B, so that one eigendecomposition
    (float64, about 10·k³ operations) serves every rate.

    Args:
        gram: (k, k) G.
        rhs: (k, d) B.
        ridge: λ.
        rates: learning rates.
        tolerance: relative residual to reach.

    Raises:
        ConfigError, SolveError: as the solver.
    """
    system = System.of(gram, rhs, ridge).double()
    matrix, scaled, root = system.unit_diagonal()
    values, vectors = torch.linalg.eigh(matrix)
    parts = vectors.T @ scaled
    weights = (vectors.T @ (root.square() * vectors)) * (parts @ parts.T)
    goal = tolerance * float(system.rhs.norm())

    def reached(steps: int, rate: float) -> bool:
        left = (1 - rate * values) ** steps
        return math.sqrt(max(float(left @ weights @ left), 0.0)) <= goal

    def needed(rate: float) -> float:
        if rate * float(values[-1]) >= 2 or not reached(MOST, rate):
            return math.inf
        return bisect_left(range(MOST), True, key=lambda steps: reached(steps, rate))

    return [needed(rate) for rate in rates]
