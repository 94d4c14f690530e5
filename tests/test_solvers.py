"""Ridge solvers: they agree, they say when they cannot, and nothing they return is NaN."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.dynamics.forecast import descent_steps
from pcompiler.dynamics.lowrank import truncate
from pcompiler.dynamics.solvers import SOLVERS, conjugate_gradients, direct, gradient_descent
from pcompiler.dynamics.system import System
from pcompiler.errors import ConfigError, SolveError

ITERATIVE = {"conjugate_gradients": conjugate_gradients, "gradient_descent": gradient_descent}


def problem(
    rows: int = 300, k: int = 48, d: int = 16, seed: int = 0, outlier: float = 100.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """G and B of inputs with a decaying spectrum and, as real ones have, an enormous channel."""
    random = torch.Generator().manual_seed(seed)
    u = torch.randn(rows, k, generator=random) @ torch.randn(k, k, generator=random)
    u = u * torch.logspace(0, -2, k)
    u[:, 0] *= outlier
    return u.T @ u, u.T @ torch.randn(rows, d, generator=random)


def residual(gram: torch.Tensor, rhs: torch.Tensor, ridge: float, x: torch.Tensor) -> float:
    g, b = gram.double(), rhs.double()
    matrix = g + ridge * g.diagonal().mean() * torch.eye(len(g), dtype=torch.float64)
    return float((matrix @ x.double() - b).norm() / b.norm())


@pytest.mark.parametrize("ridge", [0.01, 0.1, 1.0])
def test_direct_is_what_float64_solves(ridge: float) -> None:
    gram, rhs = problem()
    solution = direct(gram, rhs, ridge)
    g = gram.double()
    matrix = g + ridge * g.diagonal().mean() * torch.eye(len(g), dtype=torch.float64)
    torch.testing.assert_close(
        solution.x.double(), torch.linalg.solve(matrix, rhs.double()), rtol=1e-3, atol=1e-6
    )
    assert solution.converged
    assert solution.iterations == 0
    assert solution.x.dtype is torch.float32
    assert solution.residuals[-1] == pytest.approx(residual(gram, rhs, ridge, solution.x), abs=1e-6)


@pytest.mark.parametrize("rows", [20, 300])
@pytest.mark.parametrize("ridge", [0.01, 0.1, 1.0])
def test_conjugate_gradients_need_few_steps_with_many_right_hand_sides(
    rows: int, ridge: float
) -> None:
    gram, rhs = problem(rows)
    solution = conjugate_gradients(gram, rhs, ridge)
    assert solution.converged
    assert solution.iterations <= 20
    assert residual(gram, rhs, ridge, solution.x) <= 1e-4
    assert len(solution.residuals) == solution.iterations + 1


@pytest.mark.parametrize("d", [1, 48, 100])
def test_conjugate_gradients_take_any_number_of_right_hand_sides(d: int) -> None:
    gram, rhs = problem(d=d)
    solution = conjugate_gradients(gram, rhs, 0.01)
    assert solution.converged
    assert solution.x.shape == (48, d)


def test_gradient_descent_arrives_at_a_rate_that_is_low_enough() -> None:
    gram, rhs = problem()
    solution = gradient_descent(gram, rhs, 0.1, 0.1, max_iterations=5000)
    assert solution.converged
    assert not solution.diverged
    assert residual(gram, rhs, 0.1, solution.x) <= 1e-4
    assert solution.residuals[0] == 1.0


def test_the_forecast_is_the_number_of_steps_taken() -> None:
    gram, rhs = problem()
    (steps,) = descent_steps(gram, rhs, 0.1, [0.05])
    taken = gradient_descent(gram, rhs, 0.1, 0.05, max_iterations=100_000).iterations
    assert steps == pytest.approx(taken, rel=0.02)


def test_too_high_a_rate_is_reported_and_the_best_iterate_is_returned() -> None:
    gram, rhs = problem()
    solution = gradient_descent(gram, rhs, 0.1, 10.0)
    assert solution.diverged
    assert not solution.converged
    assert bool(solution.x.isfinite().all())
    assert solution.residuals[-1] <= 1.0
    assert descent_steps(gram, rhs, 0.1, [10.0]) == [math.inf]


@pytest.mark.parametrize("name", ITERATIVE)
def test_too_few_steps_are_reported_as_not_converged(name: str) -> None:
    gram, rhs = problem(d=1)
    solution = ITERATIVE[name](gram, rhs, 0.01, max_iterations=2)
    assert not solution.converged
    assert not solution.diverged
    assert solution.iterations == 2
    assert 1e-4 < solution.residuals[-1] < 1


@pytest.mark.parametrize("name", ["direct", "conjugate_gradients"])
def test_a_singular_system_is_an_error_that_says_what_to_do(name: str) -> None:
    gram, rhs = problem(rows=10)
    with pytest.raises(SolveError, match=r"48 unknowns and 16.*ridge 0.*raise the ridge"):
        SOLVERS[name](gram, rhs + 1, 0.0)


def test_what_fp32_cannot_factor_is_solved_in_float64() -> None:
    """A condition number of 1e8 after scaling: Cholesky fails in fp32."""
    k = 40
    q, _ = torch.linalg.qr(torch.randn(k, k, generator=torch.Generator().manual_seed(1)).double())
    gram = (q @ torch.diag(torch.logspace(0, -6.3, k, dtype=torch.float64)) @ q.T).float()
    solution = direct(gram, gram @ torch.ones(k, 1), 0.0)
    assert solution.converged
    assert bool(solution.x.isfinite().all())


@pytest.mark.parametrize("name", SOLVERS)
def test_values_that_are_not_finite_are_refused(name: str) -> None:
    gram, rhs = problem()
    for bad in (math.nan, math.inf):
        broken = rhs.clone()
        broken[3, 4] = bad
        with pytest.raises(SolveError, match="not finite"):
            SOLVERS[name](gram, broken, 0.1)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("ridge", [-0.1, math.nan, math.inf])
def test_a_ridge_out_of_range_is_refused(name: str, ridge: float) -> None:
    with pytest.raises(ConfigError, match="ridge"):
        SOLVERS[name](*problem(), ridge)


@pytest.mark.parametrize("name", SOLVERS)
def test_nothing_to_fit_gives_zero(name: str) -> None:
    gram, rhs = problem()
    solution = SOLVERS[name](gram, torch.zeros_like(rhs), 0.1)
    assert solution.converged
    assert not solution.x.any()


@pytest.mark.parametrize("name", SOLVERS)
def test_inputs_are_not_written_to(name: str) -> None:
    gram, rhs = problem()
    before = gram.clone(), rhs.clone()
    SOLVERS[name](gram, rhs, 0.1)
    assert torch.equal(gram, before[0])
    assert torch.equal(rhs, before[1])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 60), k=st.integers(1, 24), d=st.integers(1, 30), seed=st.integers(0, 99),
    scale=st.floats(-8, 8), ridge=st.sampled_from([0.0, 1e-6, 0.01, 1.0]),
)  # fmt: skip
def test_every_system_is_solved_or_refused_and_nothing_is_ever_nan(
    rows: int, k: int, d: int, seed: int, scale: float, ridge: float
) -> None:
    gram, rhs = problem(rows, k, d, seed)
    gram, rhs = gram * 10**scale, rhs * 10**scale
    for solve in SOLVERS.values():
        try:
            solution = solve(gram, rhs, ridge)
        except SolveError:
            assert ridge < 0.01
            continue
        assert bool(solution.x.isfinite().all())
        assert all(map(math.isfinite, solution.residuals[-1:]))
        assert solution.converged == (solution.residuals[-1] <= 1e-4)


def test_a_ridge_means_the_same_at_every_scale() -> None:
    gram, rhs = problem()
    small = System.of(gram, rhs, 0.1).matrix
    torch.testing.assert_close(System.of(gram * 1e4, rhs, 0.1).matrix, small * 1e4)


def test_truncation_beats_a_plain_svd_and_loses_nothing_at_full_rank() -> None:
    gram, rhs = problem()
    x = direct(gram, rhs, 0.01).x
    chol = torch.linalg.cholesky(gram + 1e-4 * torch.eye(48))

    def lost(kept: torch.Tensor) -> float:
        return float((chol.T @ (x - kept)).norm())

    losses = []
    for rank in (1, 4, 8):
        a, b = truncate(x, gram, rank)
        assert a.shape == (rank, 48)
        assert b.shape == (16, rank)
        u, s, v = torch.linalg.svd(x, full_matrices=False)
        losses.append(lost((b @ a).T))
        assert losses[-1] <= lost(u[:, :rank] @ torch.diag(s[:rank]) @ v[:rank]) * 1.001
    assert losses == sorted(losses, reverse=True)
    a, b = truncate(x, gram, 99)
    torch.testing.assert_close((b @ a).T, x, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solution_too_large_for_fp32_is_never_returned_as_inf(name: str) -> None:
    gram, rhs = problem()
    try:
        solution = SOLVERS[name](gram * 1e-15, rhs * 1e28, 0.1)
    except SolveError:
        return
    assert not solution.converged
    assert bool(solution.x.isfinite().all())
