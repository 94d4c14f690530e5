"""Attention matching: which keys stay, and masses and values that make them attend as all did."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_walk import CONTEXT, ROWS

from pcompiler.attention import attend, log_masses
from pcompiler.dynamics import matching
from pcompiler.dynamics.blocks import Block
from pcompiler.dynamics.capture import Before, Teacher, Walker, joined
from pcompiler.dynamics.matching import (
    CERTAIN_SHARE,
    keep,
    match,
    most_important,
    most_important_of_all,
    nonnegative,
)
from pcompiler.dynamics.packs import Row, pack_rows
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import GONE, prefill

seeds = st.integers(0, 2**31)


def problem(seed: int, width: int, rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A Gram matrix and right-hand side like those of masses: rows of weights that sum to one."""
    draw = torch.Generator().manual_seed(seed)
    x = (3 * torch.randn(rows, width, generator=draw)).softmax(-1)
    y = torch.randn(rows, generator=draw)
    return x.T @ x + 1e-3 * torch.eye(width), x.T @ y


def brute_force(gram: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
    """The best of the least-squares solutions on each subset of the variables."""
    best, least = torch.zeros_like(rhs), 0.0
    for bits in product([False, True], repeat=len(rhs)):
        on = torch.tensor(bits)
        if not on.any():
            continue
        w = torch.zeros_like(rhs)
        w[on] = torch.linalg.solve(gram[on][:, on], rhs[on])
        value = float(w @ gram @ w - 2 * w @ rhs)
        if bool((w >= 0).all()) and value < least:
            best, least = w, value
    return best


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 6))
def test_masses_are_the_best_that_are_not_negative(seed: int, width: int) -> None:
    gram, rhs = problem(seed, width)
    got, want = nonnegative(gram[None], rhs[None])[0], brute_force(gram.double(), rhs.double())
    torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=2e-3)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_masses_meet_the_conditions_of_optimality(seed: int) -> None:
    """w ≥ 0; no slope where w > 0, none downwards where w = 0; heads side by side."""
    both = [problem(seed + i, 30, rows=200) for i in range(2)]
    gram, rhs = (torch.stack(parts) for parts in zip(*both, strict=True))
    w = nonnegative(gram, rhs, 120)  # these have both signs, for which the bound is a loose one
    slope = (gram @ w[..., None])[..., 0] - rhs
    size = float(rhs.abs().max())
    assert bool((w >= 0).all())
    assert bool((slope >= -1e-3 * size).all())
    assert bool((slope[w > 0.01].abs() <= 1e-3 * size).all())
    torch.testing.assert_close(w[:1], nonnegative(gram[:1], rhs[:1], 120), rtol=1e-4, atol=1e-4)


def test_the_most_important_keys_stay_in_order() -> None:
    weights = torch.tensor([[0.1, 0.9, 0.2, 0.8], [0.7, 0.1, 0.2, 0.3]])
    assert most_important(weights, 2).tolist() == [[1, 3], [0, 3]]
    assert most_important(weights, 1).tolist() == [[0, 1, 2, 3]] * 2
    assert most_important(weights, 100).tolist() == [[1], [0]]  # never none


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(4, 60), st.floats(1, 40))
def test_a_common_budget_has_the_same_total_and_a_certain_share_for_each_head(
    seed: int, n: int, factor: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, 2, n, generator=draw) ** 4
    weights[1] *= 0.01  # a layer that would get nothing
    kept = most_important_of_all(weights, factor)
    each = most_important(weights[0], factor).shape[1]
    counts = torch.stack([(layer >= 0).sum(-1) for layer in kept])
    assert int(counts.sum()) == each * 6
    assert int(counts.min()) >= max(1, each // CERTAIN_SHARE)
    for layer, weight in zip(kept, weights, strict=True):
        for chosen, own in zip(layer, weight, strict=True):
            real = chosen[chosen >= 0]
            assert bool((real.diff() > 0).all())
            assert bool((chosen[len(real) :] == -1).all())  # padding only at the end
            gone = torch.ones(n, dtype=torch.bool)
            gone[real] = False
            assert not gone.any() or float(own[real].min()) >= float(own[gone].max())


def test_what_is_kept_is_as_it_was_and_what_pads_weighs_nothing() -> None:
    context = Before(torch.randn(2, 5, 4), torch.randn(2, 5, 4), torch.arange(5).expand(2, -1))
    kept = keep(context, torch.tensor([[0, 3], [4, -1]]))
    assert torch.equal(kept.keys[0], context.keys[0, [0, 3]])
    assert torch.equal(kept.values[1, 0], context.values[1, 4])
    assert kept.positions[0].tolist() == [0, 3]
    assert kept.bias is not None
    assert kept.bias.tolist() == [[0.0, 0.0], [0.0, GONE]]
    assert math.exp(GONE) == 0.0


def first_layer(
    model: LanguageModel, rows: list[Row] = ROWS
) -> tuple[Walker, Block, Teacher, Before, Before]:
    """A student before its attention in layer 0, where an eighth of the keys is kept."""
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(rows))
    walker, block = Walker(model, teacher.packs, teacher.start), Block(model, 0)
    walker.enter(block)
    teacher.advance(block, 0)
    context = teacher.context(0)
    return walker, block, teacher, context, keep(context, most_important(teacher.importance, 8))


def output_error(walker: Walker, block: Block, teacher: Teacher, before: Before) -> float:
    """Squared error of the attention's output over the fitting packs."""
    total = 0.0
    for i, pack in enumerate(walker.packs):
        if not pack.validation:
            x = walker.attended(i)
            got = joined(attend(x.q, walker.scene(block, i, x, before))[0])
            total += float((got - teacher.output[i]).square().sum())
    return total


def mass_error(walker: Walker, block: Block, context: Before, kept: Before) -> float:
    """Squared error of the kept keys' mass, as a share of a token's whole attention."""
    total = 0.0
    for i, pack in enumerate(walker.packs):
        if not pack.validation:
            x = walker.attended(i)
            every, own = log_masses(x.q, walker.scene(block, i, x, context))
            some, _ = log_masses(x.q, walker.scene(block, i, x, kept))
            error = torch.where(every.isinf(), 0.0, (some - every).exp() - 1)
            total += float((torch.sigmoid(every - own) * error).square().sum())
    return total


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_matched_keys_attend_more_like_all_keys_than_evicted_ones(family: str) -> None:
    walker, block, teacher, context, evicted = first_layer(tiny(family))
    matched = match(walker, block, teacher, context, evicted)
    assert torch.equal(matched.keys, evicted.keys)
    mass = mass_error(walker, block, context, matched)
    assert mass < mass_error(walker, block, context, evicted)
    # Values are fitted beside the masses: they must gain on those masses, and in all.
    only_masses = Before(matched.keys, evicted.values, matched.positions, matched.bias)
    fitted = output_error(walker, block, teacher, matched)
    assert fitted < output_error(walker, block, teacher, only_masses)
    assert fitted < 0.8 * output_error(walker, block, teacher, evicted)


def test_padding_stays_padding_when_it_is_matched(model: LanguageModel) -> None:
    walker, block, teacher, context, _ = first_layer(model)
    chosen = torch.tensor([[0, 7, 30], [12, -1, -1]])
    matched = match(walker, block, teacher, context, keep(context, chosen))
    assert matched.bias is not None
    assert torch.equal(matched.bias == GONE, chosen < 0)
    assert torch.isfinite(matched.values).all()


def test_validation_probes_are_not_matched_to(model: LanguageModel) -> None:
    fitting = [row for row in ROWS if not row.validation]
    with_them, without = (match(*first_layer(model, rows)) for rows in (ROWS, fitting))
    torch.testing.assert_close(with_them.values, without.values)
    assert with_them.bias is not None
    assert without.bias is not None
    torch.testing.assert_close(with_them.bias, without.bias)


@pytest.mark.parametrize("tokens", [1, 20, 60, 10_000])
def test_a_sample_is_spread_over_fitting_packs(
    monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    monkeypatch.setattr(matching, "SAMPLE_TOKENS", tokens)
    monkeypatch.setattr("pcompiler.dynamics.packs.PACK_TOKENS", 1)
    packs = pack_rows(ROWS * 3)
    found = matching._sample(packs)
    assert found
    assert len(set(found)) == len(found)
    assert not any(packs[i].validation for i in found)
    assert len(found) == sum(not p.validation for p in packs) or tokens < 10_000


def test_heads_one_by_one_are_what_they_are_in_one_batch(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the host each head solves for its own keys, elsewhere for as many as the largest has."""
    walker, block, teacher, context, kept = first_layer(model)
    chosen = kept.positions.clone()
    chosen[0, 2:] = -1  # a small head next to a large one
    thin = keep(context, chosen)
    apart = match(walker, block, teacher, context, thin)
    sizes: list[tuple[int, ...]] = []
    real = matching.nonnegative
    monkeypatch.setattr(
        matching, "nonnegative", lambda g, r: sizes.append(tuple(g.shape)) or real(g, r)
    )
    monkeypatch.setattr(matching, "on_host", lambda _: False)
    batched = match(walker, block, teacher, context, thin)
    m, heads = chosen.shape[1], len(chosen)
    assert sizes == [(heads, m, m)]
    assert apart.bias is not None
    assert batched.bias is not None
    torch.testing.assert_close(apart.bias, batched.bias, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(apart.values, batched.values, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(matching, "on_host", lambda _: True)
    match(walker, block, teacher, context, thin)
    assert sizes[1:] == [(1, 2, 2), *[(1, m, m)] * (heads - 1)]
