"""Reduced-rank regression: the best rank-r stand-in for a fitted map, on the inputs it is for."""

from __future__ import annotations

import torch

from pcompiler.device import at_home


def truncate(
    weights: torch.Tensor, gram: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Project the fitted outputs U·X on the top r eigenvectors of their covariance Xᵀ G X.

    The best rank-r map for ‖U·X − U·X_r‖_F (Eckart-Young on the outputs), where a plain SVD of X
    is the best for inputs that are white (Izenman 1975).

    Args:
        weights: (k, d), X, a solution of the ridge problem.
        gram: (k, k), G = UᵀU.
        rank: r, 1 or more; above min(k, d) it keeps all.

    Returns:
        a (r, k) and b (d, r) with X_r = (b a)ᵀ: outputs are ``(u @ a.T) @ b.T``. b is orthonormal.
    """
    return project(weights, weights.T @ (gram @ weights), rank)


def project(
    weights: torch.Tensor, covariance: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``truncate`` where the fitted outputs' covariance Xᵀ G X (d, d) is known already."""
    assert rank >= 1, "a rank is 1 or more"
    _, vectors = at_home(torch.linalg.eigh, (covariance + covariance.T) / 2)  # ascending
    top = vectors[:, -min(rank, *weights.shape) :].flip(1)
    return (weights @ top).T.contiguous(), top.contiguous()
