"""One layer's patch: the best of its rank, and no more of it than validation rows confirm."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_moments import CPU, D, K, Rows, moments, rows, seeds, truth

from pcompiler.dynamics.moments import Moments
from pcompiler.dynamics.ridge import RIDGES, Ridge, shared_ranks
from pcompiler.runtime.patch import Delta


def explicit(known: Rows, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted, centred features and the ridge solution on them, in float64."""
    u, t, w = (x.double() for x in known)
    u, t = (x - (w @ x) / w.sum() for x in (u, t))
    u, t = u * w.sqrt()[:, None], t * w.sqrt()[:, None]
    gram = u.T @ u
    damped = gram + ridge * gram.diagonal().mean() * torch.eye(K, dtype=torch.float64)
    return u, torch.linalg.solve(damped, u.T @ t)


@pytest.mark.parametrize("rank", [1, 2, 4, 5, 50])
def test_a_patch_of_rank_r_is_the_best_of_the_ridge_solutions_outputs(rank: int) -> None:
    known = rows(0, truth=truth(), noise=0.1)
    delta = Ridge([rank])(0, moments(known), Moments(K, D, CPU))
    assert delta is not None
    assert delta.rank == min(rank, D)
    u, x = explicit(known, RIDGES[1])
    left, sizes, right = torch.linalg.svd(u @ x, full_matrices=False)
    sizes[rank:] = 0
    got = u @ (delta.b @ delta.a).double().T
    torch.testing.assert_close(got, left * sizes @ right, rtol=1e-3, atol=1e-3)
    # Its bias makes up for the mean that it leaves.
    fitted = known[0] @ (delta.b @ delta.a).T + delta.bias
    torch.testing.assert_close(known[2] @ fitted, known[2] @ known[1], rtol=1e-3, atol=1e-3)


def error_of(delta: Delta | None, known: Rows) -> float:
    """Weighted squared error on some rows, as a share of that without a patch."""
    u, t, w = known
    left = t if delta is None else t - delta(u)
    return float((w[:, None] * left.square()).sum() / (w[:, None] * t.square()).sum())


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(0, 20), st.integers(1, 5))
def test_a_patch_is_never_worse_than_none_on_validation_rows(
    seed: int, noise: float, rank: int
) -> None:
    fitting, validation = (rows(seed + i, 20, truth(), noise) for i in range(2))
    delta = Ridge([rank])(0, moments(fitting), moments(validation))
    assert error_of(delta, validation) <= 1 + 1e-4


def test_what_validation_rows_contradict_is_left_out() -> None:
    u, t, w = rows(0, truth=truth())
    assert Ridge([3])(0, moments((u, t, w)), moments((u, -t, w))) is None


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_what_is_noise_to_validation_rows_is_faint(seed: int) -> None:
    fitting, noise = rows(seed, truth=truth()), rows(seed + 1, n=400)
    delta = Ridge([5])(0, moments(fitting), moments(noise))
    assert delta is None or float((delta.b @ delta.a).norm()) < 0.2 * float(truth().norm())


def test_what_validation_rows_confirm_is_kept_whole() -> None:
    fitting, validation = (rows(i, 400, truth(), 0.01) for i in range(2))
    delta = Ridge([5])(0, moments(fitting), moments(validation))
    assert error_of(delta, validation) < 0.05


def test_fewer_directions_are_kept_where_the_others_do_not_hold() -> None:
    """One direction is in both sets of rows; what else fits the first is noise."""
    one = torch.outer(truth()[:, 0], truth()[0])
    fitting, validation = rows(0, 12, one, 3.0), rows(1, 400, one, 0.1)
    delta = Ridge([4])(0, moments(fitting), moments(validation))
    assert delta is not None
    assert delta.rank == 1


def test_the_penalty_moves_one_place_a_layer_and_finds_its_level() -> None:
    """Few rows with much noise want much of it, many clean ones the least."""
    for n, noise, least, most in ((12, 8.0, 2, len(RIDGES)), (400, 0.01, 0, 1)):
        solver, places = Ridge([5] * 36), [1]
        for layer in range(36):
            solver(
                layer,
                moments(rows(2 * layer, n, truth(), noise)),
                moments(rows(2 * layer + 1, 400, truth(), noise)),
            )
            places.append(solver._at)
        assert max(abs(a - b) for a, b in pairwise(places)) <= 1
        assert least <= sum(places[18:]) / len(places[18:]) <= most


def test_a_layer_without_a_rank_is_left_as_it_is() -> None:
    solver = Ridge([0, 2])
    both = moments(rows(0, truth=truth())), moments(rows(1, truth=truth()))
    assert solver(0, *both) is None
    assert solver(1, *both) is not None


@given(seeds, st.integers(0, 40))
def test_ranks_are_shared_out_by_energy(seed: int, directions: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    energies = [torch.rand(n, generator=draw).sort(descending=True).values for n in (8, 3, 8)]
    ranks = shared_ranks(energies, directions)
    assert sum(ranks) == min(directions, 19)
    taken = [e[:r] for e, r in zip(energies, ranks, strict=True)]
    left = [e[r:] for e, r in zip(energies, ranks, strict=True)]
    if 0 < directions < 19:
        assert torch.cat(taken).min() >= torch.cat(left).max()
