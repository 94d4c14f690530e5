"""Sums over rows stand for the rows: at once or in parts, about their means, for any fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.dynamics.moments import Fit, Moments

CPU = torch.device("cpu")
K, D = 9, 5
seeds = st.integers(0, 2**31)
Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def rows(seed: int, n: int = 60, truth: torch.Tensor | None = None, noise: float = 1.0) -> Rows:
    """Features, targets and weights; without a truth the targets are noise."""
    draw = torch.Generator().manual_seed(seed)
    u = torch.randn(n, K, generator=draw) + 0.5
    t = noise * torch.randn(n, D, generator=draw)
    if truth is not None:
        t = t + u @ truth + torch.arange(D)  # with a mean that only a bias can give
    return u, t, torch.rand(n, generator=draw) + 0.1


def moments(*parts: Rows) -> Moments:
    found = Moments(K, D, CPU)
    for u, t, w in parts:
        found.add(u, t, w)
    return found


def truth(seed: int = 0) -> torch.Tensor:
    return torch.randn(K, D, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 59))
def test_streamed_sums_are_those_of_all_rows_at_once(seed: int, cut: int) -> None:
    u, t, w = rows(seed)
    parts = [tuple(x[s] for x in (u, t, w)) for s in (slice(cut), slice(cut, None))]
    one, two = moments((u, t, w)), moments(*parts)  # type: ignore[arg-type]
    for name in ("u", "t", "uu", "ut"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), rtol=1e-4, atol=1e-4)
    assert (one.weight, one.tt) == pytest.approx((two.weight, two.tt), rel=1e-5)


def test_a_weight_of_two_is_the_row_twice_and_of_zero_no_row() -> None:
    u, t, _ = rows(0)
    counts = torch.arange(60) % 3
    weighted = moments((u, t, counts.float()))
    repeated = (x.repeat_interleave(counts, dim=0) for x in (u, t, torch.ones(60)))
    plain = moments(tuple(repeated))  # type: ignore[arg-type]
    torch.testing.assert_close(weighted.uu, plain.uu, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weighted.ut, plain.ut, rtol=1e-4, atol=1e-4)
    assert weighted.weight == plain.weight


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_centred_sums_and_the_bias_are_those_of_centred_rows(seed: int) -> None:
    u, t, w = rows(seed, truth=truth())
    centred_u = u - (w @ u) / w.sum()
    centred_t = t - (w @ t) / w.sum()
    known = moments((u, t, w))
    uu, ut = known.centred()
    torch.testing.assert_close(uu, (centred_u * w[:, None]).T @ centred_u, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ut, (centred_u * w[:, None]).T @ centred_t, rtol=1e-3, atol=1e-3)
    left = t - u @ truth()
    torch.testing.assert_close(known.bias(truth()), (w @ left) / w.sum(), rtol=1e-3, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(0, 1))
def test_a_fit_is_the_error_that_its_rows_have(seed: int, strength: float) -> None:
    u, t, w = rows(seed, truth=truth())
    x, bias = truth(1), torch.randn(D, generator=torch.Generator().manual_seed(seed))
    fit = moments((u, t, w)).fit(x, bias)
    left = t - strength * (u @ x + bias)
    want = float((w[:, None] * left.square()).sum() / (w[:, None] * t.square()).sum())
    assert float(fit.error(strength)) == pytest.approx(want, rel=1e-3, abs=1e-4)
    assert fit.error(0) == 1


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 10), st.floats(-10, 10), st.floats(0, 10))
def test_the_strength_has_the_least_error_from_none_to_all(
    total: float, crossed: float, square: float
) -> None:
    fit = Fit(total, *torch.tensor([crossed, square], dtype=torch.float64))
    least = min(float(fit.error(i / 100)) for i in range(101))
    if square > 0:
        assert fit.error(fit.strength) <= least + 1e-6
    assert 0 <= fit.strength <= 1
    assert Fit(total, torch.tensor(crossed), torch.tensor(0.0)).strength == 0


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_fits_of_all_ranks_are_those_of_each_alone(seed: int) -> None:
    fitting, known = moments(rows(seed, truth=truth())), moments(rows(seed + 1, truth=truth(1)))
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(D, K, generator=draw), torch.linalg.qr(torch.randn(D, D, generator=draw)).Q
    together = known.fits(a, b, fitting)
    for rank in range(1, D + 1):
        x = a[:rank].T @ b[:, :rank].T
        alone = known.fit(x, fitting.bias(x))
        torch.testing.assert_close(together.crossed[rank - 1], alone.crossed, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(together.square[rank - 1], alone.square, rtol=1e-3, atol=1e-2)
