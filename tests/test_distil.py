"""Refinement: gradient descent from the closed form on, on the fitting rows only."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from conftest import tiny

from pcompiler.config import Config, ProbeConfig, TargetConfig
from pcompiler.dynamics.distil import _batches, _rate, refine
from pcompiler.dynamics.packs import Row
from pcompiler.frontend import parse
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import score
from pcompiler.runtime.prefix import Prefix
from pcompiler.targets.base import Compilation
from pcompiler.targets.fitted import Recipe, fit

PROMPT = "The workshop opens at nine and closes at five, except on Sundays. Ask for Mrs Abt."


@pytest.fixture(scope="module")
def compilation() -> Compilation:
    return of(tiny())


def of(model: LanguageModel) -> Compilation:
    probes = ProbeConfig(self_study=2, fitting=24, query_tokens=6, answer_tokens=6)
    return Compilation(parse(PROMPT), model, Config(probes=probes))


def fitting_kl(compilation: Compilation, student: Prefix) -> float:
    rows = [row for row in compilation.rows if not row.validation]
    answers = [row.answer for row in rows]
    model, total = compilation.model, 0.0
    queries = [row.query if student.length else row.bare for row in rows]
    teacher = score(model, compilation.teacher, [row.query for row in rows], answers)
    for p, q in zip(teacher, score(model, student, queries, answers), strict=True):
        total += float((p.exp() * (p - q)).sum())
    return total / sum(map(len, answers))


@pytest.mark.parametrize("recipe", [Recipe(None, 4), Recipe(4.0, 0), Recipe(4.0, 4)])
def test_steps_bring_the_student_nearer_on_what_it_is_fitted_on(
    compilation: Compilation, recipe: Recipe
) -> None:
    (closed,) = fit(compilation, [recipe])
    rows: list[Row] = compilation.rows
    after = refine(compilation.model, compilation.teacher, closed, rows, steps=80, seed=0)
    assert fitting_kl(compilation, after) < 0.95 * fitting_kl(compilation, closed)


@pytest.mark.parametrize("recipe", [Recipe(None, 4), Recipe(4.0, 4)])
def test_a_model_of_one_block_has_no_streams_to_learn_from(recipe: Recipe) -> None:
    single = of(tiny(num_hidden_layers=1))
    (closed,) = fit(single, [recipe])
    after = refine(single.model, single.teacher, closed, single.rows, steps=80, seed=0)
    assert fitting_kl(single, after) < fitting_kl(single, closed)


def test_the_same_seed_gives_the_same_bytes(compilation: Compilation) -> None:
    (closed,) = fit(compilation, [Recipe(4.0, 4)])
    one, two = (
        refine(compilation.model, compilation.teacher, closed, compilation.rows, 5, seed=1)
        for _ in range(2)
    )
    assert torch.equal(one.values, two.values)
    assert one.patch is not None
    assert two.patch is not None
    assert all(torch.equal(one.patch.deltas[i].a, two.patch.deltas[i].a) for i in one.patch.deltas)


def test_no_weight_is_written_to_and_no_gradient_stays(compilation: Compilation) -> None:
    (closed,) = fit(compilation, [Recipe(4.0, 4)])
    before = {name: p.clone() for name, p in compilation.model.hf.named_parameters()}
    refine(compilation.model, compilation.teacher, closed, compilation.rows, 3, seed=0)
    for name, p in compilation.model.hf.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None


def test_batches_are_of_like_lengths_and_show_each_row_once_a_round() -> None:
    draw = random.Random(5)
    rows = [Row([0] * draw.randint(5, 100), [], [0] * 8) for _ in range(200)]
    batches = _batches(rows, 500, draw)
    rounds = []
    for _ in range(2):
        seen: list[list[int]] = []
        while sum(map(len, seen)) < len(rows):
            seen.append(next(batches))
        assert sorted(i for batch in seen for i in batch) == list(range(len(rows)))
        filled = sum(len(batch) * max(len(rows[i].query) + 8 for i in batch) for batch in seen)
        assert filled < 1.3 * sum(len(row.query) + 8 for row in rows)  # half as much again if mixed
        rounds.append({frozenset(batch) for batch in seen})
    assert not rounds[0] & rounds[1]


@pytest.mark.parametrize("steps", [1, 3, 40, 500])
def test_steps_start_small_and_end_small(steps: int) -> None:
    """Adam's first ones go at full length in any direction, which undoes some of the start."""
    rates = [_rate(i, steps) for i in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    if steps >= 40:
        highest = max(rates)
        assert rates[0] <= 0.3 * highest
        assert rates[-1] <= 0.01 * highest
        assert 0.05 <= rates.index(highest) / steps <= 0.15


def test_a_refinement_that_does_not_help_is_not_kept(
    compilation: Compilation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcompiler.dynamics.distil.RATE", 1e3)
    settings = replace(compilation.config, targets=TargetConfig(factor=4, refine=3))
    (closed,) = fit(compilation, [Recipe(4.0, 0)])
    (kept,) = fit(compilation.with_config(settings), [Recipe(4.0, 0)])
    assert torch.equal(closed.values, kept.values)
