"""Sufficient statistics of a least-squares problem, streamed: memory depends on no row count."""

from __future__ import annotations

import torch

from pcompiler.ops import weighted_sums


class Moments:
    """Weighted sums over rows of features u (k,) and targets t (d,).

    Attributes:
        weight: Σ w.
        u: (k,) Σ w u.
        t: (d,) Σ w t.
        uu: (k, k) Σ w u uᵀ.
        ut: (k, d) Σ w u tᵀ.
        tt: Σ w ‖t‖².
    """

    def __init__(self, features: int, targets: int, device: torch.device) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float32, device=device)

        self.u, self.t = zeros(features), zeros(targets)
        self.uu, self.ut = zeros(features, features), zeros(features, targets)
        self.weight, self.tt = 0.0, 0.0

    def add(self, u: torch.Tensor, t: torch.Tensor, w: torch.Tensor) -> None:
        """Add rows: (n, k) features, (n, d) targets, (n,) weights."""
        self.uu, self.ut = weighted_sums(self.uu, self.ut, u, t, w)
        w, t = w.float(), t.float()
        self.weight += float(w.sum())
        self.u += u.float().T @ w
        self.t += t.T @ w
        self.tt += float(t.square().sum(1) @ w)

    def centred(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The sums about the means, (k, k) and (k, d): the problem that a free bias leaves."""
        return (
            self.uu - torch.outer(self.u, self.u / self.weight),
            self.ut - torch.outer(self.u, self.t / self.weight),
        )

    def bias(self, x: torch.Tensor) -> torch.Tensor:
        """(d,), the best bias beside a map x (k, d): the mean of what x leaves."""
        return (self.t - x.T @ self.u) / self.weight

    def fit(self, x: torch.Tensor, bias: torch.Tensor) -> Fit:
        """How x (k, d) with a bias (d,) does on these rows."""
        crossed = (self.ut * x).sum() + self.t @ bias
        mean = 2 * (self.u @ x) @ bias + self.weight * bias @ bias
        return Fit(self.tt, crossed, ((self.uu @ x) * x).sum() + mean)

    def fits(self, a: torch.Tensor, b: torch.Tensor, other: Moments) -> Fit:
        """How the first r directions of b a do on these rows, for every r at once.

        With an orthonormal b nothing is crossed between directions, so a rank's sums are those of
        its directions added up.

        Args:
            a: (R, k).
            b: (d, R), orthonormal.
            other: the rows about whose means the map was fitted: its bias is theirs.
        """
        mean_u, mean_t = other.u / other.weight, other.t / other.weight
        at_mean, wide = a @ mean_u, a @ self.u
        # Features about the other rows' mean: f = t̄ + b a (u − ū).
        shifted = wide - self.weight * at_mean
        crossed = ((a @ self.ut) * b.T).sum(1) - at_mean * (b.T @ self.t)
        square = ((a @ self.uu) * a).sum(1) - 2 * at_mean * wide + self.weight * at_mean.square()
        square += 2 * shifted * (b.T @ mean_t)
        return Fit(
            self.tt,
            mean_t @ self.t + crossed.cumsum(0),
            self.weight * mean_t @ mean_t + square.cumsum(0),
        )


class Fit:
    """Σ w ‖t − s·f‖² for fitted rows f, as a parabola in the strength s; of one map or several.

    Args:
        total: Σ w ‖t‖².
        crossed: (…) Σ w t·f.
        square: (…) Σ w ‖f‖².
    """

    def __init__(self, total: float, crossed: torch.Tensor, square: torch.Tensor) -> None:
        self.total, self.crossed, self.square = total, crossed, square

    @property
    def strength(self) -> torch.Tensor:
        """(…), the s in 0..1 with the least error; 0: better left out."""
        some = self.square > 0
        return (self.crossed / self.square.where(some, 1.0)).clamp(0, 1).where(some, 0.0)

    def error(self, strength: torch.Tensor | float) -> torch.Tensor:
        """(…), the error relative to leaving the map out, which is 1."""
        s = strength
        return (self.total - 2 * s * self.crossed + s * s * self.square) / max(self.total, 1e-30)
