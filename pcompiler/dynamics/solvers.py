"""Three ways to solve the ridge problem (G + λ·s·I) X = B of a static patch.

G (k, k) = UᵀU and B (k, d) = UᵀT are sums over probe tokens, s = tr(G)/k. All solvers take fp32,
check their answer in float64, and never return NaN. For a gated MLP k is d_ff and d the width of
the residual stream, k/d ≈ 3: there ``direct`` costs k³/3 + 2k²d operations and one step of either
iteration 2k²d, so the iterations only pay where G is too large to factor or to hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from pcompiler.device import at_home
from pcompiler.dynamics.system import TOLERANCE, Solution, System, reported
from pcompiler.ranges import ranged

Solver: TypeAlias = Callable[[torch.Tensor, torch.Tensor, float], Solution]
GROWTH = 1e3  # a residual this many times its start will not come back


@reported
@ranged("solver direct")
def direct(gram: torch.Tensor, rhs: torch.Tensor, ridge: float) -> Solution:
    """Cholesky: k³/3 + 2k²d operations; in float64 if fp32 fails or misses 1e-4.

    Args:
        gram: (k, k) G, symmetric, positive semidefinite.
        rhs: (k, d) B.
        ridge: λ, 0 or more; relative to the mean of G's diagonal.

    Raises:
        ConfigError: λ is negative or not finite.
        SolveError: not finite, or singular in float64 too.
    """
    system = System.of(gram, rhs, ridge)
    x = _cholesky(system)
    if x is not None:
        solution = system.answer(x)
        if solution.converged:
            return solution
    # What fp32 sums of G leave below its own rounding is noise, whatever float64 makes of it.
    x = _cholesky(system.double(), least_pivot=torch.finfo(gram.dtype).eps)
    if x is None:
        raise system.unsolvable("a pivot of its Cholesky factor is lost in rounding")
    return system.answer(x)


@reported
@ranged("solver conjugate gradients")
def conjugate_gradients(
    gram: torch.Tensor,
    rhs: torch.Tensor,
    ridge: float,
    tolerance: float = TOLERANCE,
    max_iterations: int = 100,
) -> Solution:
    """Block conjugate gradients on the system scaled to a unit diagonal (Jacobi).

    All d right-hand sides share one Krylov space, which grows by d dimensions a step: with k/d ≈ 3
    a handful of steps spans all of it, whatever the condition number. Residuals are kept as an
    orthonormal factor times C, which stands rank-deficient blocks (O'Leary 1980; the variant is
    BCGrQ of Dubrulle 2001; Householder's QR, because the blocks are too ill-conditioned for
    Cholesky QR). A step costs 2k²d + 8kd² operations: at k/d ≈ 3 more in all than ``direct``.
    With few right-hand sides (d ≪ k/20) it takes as many steps as the ordinary method.

    Args:
        gram: (k, k) G.
        rhs: (k, d) B.
        ridge: λ, 0 or more; relative to the mean of G's diagonal.
        tolerance: relative residual to reach.
        max_iterations: steps after which the best answer so far is returned, not converged.

    Raises:
        ConfigError: λ is negative or not finite.
        SolveError: not finite, or not positive definite in float64 too.
    """
    system = System.of(gram, rhs, ridge)
    for attempt in (system, system.double()):
        found = _block_cg(attempt, tolerance, max_iterations)
        if found is not None:
            solution = system.answer(*found, tolerance)
            misled = found[1][-1] <= tolerance and not solution.converged
            if not misled or attempt is not system:
                return solution
    raise system.unsolvable("a direction of no curvature")


@reported
@ranged("solver gradient descent")
def gradient_descent(
    gram: torch.Tensor,
    rhs: torch.Tensor,
    ridge: float,
    rate: float = 0.01,
    tolerance: float = TOLERANCE,
    max_iterations: int = 1000,
) -> Solution:
    """Plain gradient descent with a fixed rate, on the normalised system.

    Normalised: A = G + λsI is scaled to a unit diagonal, Ã = D^-½ A D^-½ with D = diag A, as
    features are scaled to unit variance. Then a rate means the same whatever the activations'
    size, and one outlier channel does not set it for all. It converges if and only if
    rate < 2/λ_max(Ã), and then as (1 − rate·λ_min)ⁿ; a mean eigenvalue is 1. A step costs 2k²d.

    Args:
        gram: (k, k) G.
        rhs: (k, d) B.
        ridge: λ, 0 or more; relative to the mean of G's diagonal.
        rate: learning rate η, over 0.
        tolerance: relative residual to reach.
        max_iterations: steps after which the best answer so far is returned, not converged.

    Returns:
        A solution with ``diverged`` set if the rate is too high; its x is the best iterate.

    Raises:
        ConfigError: λ is negative or not finite.
        SolveError: values that are not finite.
    """
    assert rate > 0, "a learning rate is over 0"
    system = System.of(gram, rhs, ridge)
    matrix, scaled, root = system.unit_diagonal()
    size = float(rhs.norm())
    x, residual = torch.zeros_like(scaled), scaled
    best, best_at, history = x, 1.0, [1.0 if size else 0.0]
    while history[-1] > tolerance and len(history) <= max_iterations:
        x = x + rate * residual
        residual = scaled - matrix @ x
        # Measured in the units of the original system, as every solver is.
        now = float((root * residual).norm()) / size
        history.append(now)
        if not now < GROWTH:
            break
        if now < best_at:
            best, best_at = x, now
    diverged = not history[-1] < GROWTH or history[-1] > 10 * best_at
    return system.answer(best / root, tuple(history), tolerance, diverged=diverged)


SOLVERS: dict[str, Solver] = {
    "direct": direct,
    "conjugate_gradients": conjugate_gradients,
    "gradient_descent": gradient_descent,
}


def _cholesky(system: System, least_pivot: float = 0.0) -> torch.Tensor | None:
    """X, or nothing where the matrix is not positive definite."""
    factor, info = at_home(torch.linalg.cholesky_ex, system.matrix)
    if int(info):
        return None
    # A pivot beside its own diagonal entry: the share of a column that no earlier one explains.
    if float((factor.diagonal() ** 2 / system.matrix.diagonal()).min()) <= least_pivot:
        return None
    x: torch.Tensor = at_home(torch.cholesky_solve, system.rhs, factor)
    return x if bool(torch.isfinite(x.sum())) else None


def _block_cg(
    system: System, tolerance: float, max_iterations: int
) -> tuple[torch.Tensor, tuple[float, ...]] | None:
    """X and the residuals on the way; nothing where a direction has no positive curvature."""
    matrix, scaled, root = system.unit_diagonal()
    size = float(system.rhs.norm())
    x = torch.zeros_like(scaled)
    basis, weights = at_home(torch.linalg.qr, scaled)  # R = basis @ weights, all the way
    directions, history = basis, [1.0 if size else 0.0]
    while history[-1] > tolerance and len(history) <= max_iterations:
        image = matrix @ directions
        factor, info = at_home(torch.linalg.cholesky_ex, directions.T @ image)
        if int(info):
            return None
        x = x + directions @ at_home(torch.cholesky_solve, weights, factor)
        inverse = at_home(torch.cholesky_solve, torch.eye(len(factor)).to(factor), factor)
        basis, change = at_home(torch.linalg.qr, basis - image @ inverse)
        weights, directions = change @ weights, basis + directions @ change.T
        history.append(float((root * (basis @ weights)).norm()) / size)
        if not history[-1] < GROWTH:
            return None
    return x / root, tuple(history)
