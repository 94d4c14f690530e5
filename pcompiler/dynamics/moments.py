"""Sufficient statistics of a least-squares problem, streamed: memory depends on no row count."""

from __future__ import annotations

import torch

from pcompiler.dynamics.gram import gram


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
        root = w.float().sqrt()[:, None]
        u, t = u.float() * root, t.float() * root
        self.weight += float(w.sum())
        self.u += u.T @ root[:, 0]
        self.t += t.T @ root[:, 0]
        self.uu += gram(u)
        self.ut.addmm_(u.T, t)
        self.tt += float(t.square().sum())

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
        crossed = float((self.ut * x).sum()) + float(self.t @ bias)
        mean = 2 * float((self.u @ x) @ bias) + self.weight * float(bias @ bias)
        return Fit(self.tt, crossed, float(((self.uu @ x) * x).sum()) + mean)


class Fit:
    """Σ w ‖t − s·f‖² for fitted rows f, as a parabola in the strength s.

    Args:
        total: Σ w ‖t‖².
        crossed: Σ w t·f.
        square: Σ w ‖f‖².
    """

    def __init__(self, total: float, crossed: float, square: float) -> None:
        self.total, self.crossed, self.square = total, crossed, square

    @property
    def strength(self) -> float:
        """The s in 0..1 with the least error; 0: better left out."""
        return min(1.0, max(0.0, self.crossed / self.square)) if self.square > 0 else 0.0

    def error(self, strength: float) -> float:
        """The error relative to leaving the map out, which is 1."""
        s = strength
        return (self.total - 2 * s * self.crossed + s * s * self.square) / max(self.total, 1e-30)
