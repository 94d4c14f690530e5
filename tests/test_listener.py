"""The listener: what it hears is what the runtime says, and what does harm does not stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_walk import CONTEXT, ROWS

from pcompiler.dynamics.answers import answers_of, kl_from
from pcompiler.dynamics.capture import Teacher, Walker
from pcompiler.dynamics.listener import Listener
from pcompiler.dynamics.packs import Pack, Row, pack_rows
from pcompiler.dynamics.ridge import Ridge
from pcompiler.dynamics.student import Student, walk
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import score
from pcompiler.runtime.patch import Delta
from pcompiler.runtime.prefix import Prefix, nothing, prefill

VALIDATION = [replace(row, validation=True) for row in ROWS]


def bare(rows: list[Row]) -> list[Pack]:
    return pack_rows(rows, bare=True)


def heard(listener: Listener) -> float:
    assert listener.kept is not None
    return float(listener.kept.sum())


def said(model: LanguageModel, teacher: Prefix, student: Prefix, packs: list[Pack]) -> float:
    """KL over all answers, by the runtime, each row weighted as its pack."""
    total = 0.0
    for pack in packs:
        known = answers_of(model, teacher, pack.rows)
        logits = score(model, student, [r.bare for r in pack.rows], [r.answer for r in pack.rows])
        total += pack.weight * float(kl_from(known, torch.cat(list(logits))).sum())
    return total


def student_of(model: LanguageModel, listener: Listener | None) -> Student:
    walker = Walker(model, bare([*ROWS, *VALIDATION]), 0)
    return Student(walker, solve=Ridge([4] * model.card.layers), listener=listener)


def listener_of(model: LanguageModel, exact: Prefix) -> Listener:
    packs = bare([*ROWS, *VALIDATION])
    numbers = [i for i, pack in enumerate(packs) if pack.validation]
    return Listener(model, exact, [packs[i] for i in numbers], numbers)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_what_is_heard_in_the_end_is_what_the_runtime_says(family: str) -> None:
    """Of the patch that came out, in every family: windows, caps and scales included."""
    model = tiny(family)
    exact = prefill(model, CONTEXT)
    listener = listener_of(model, exact)
    student = student_of(model, listener)
    walk(model, Teacher(model, exact, pack_rows([*ROWS, *VALIDATION])), [student])
    packs = [student.walker.packs[i] for i in listener.numbers]
    assert heard(listener) == pytest.approx(said(model, exact, student.prefix(), packs), rel=1e-3)


def test_a_patch_that_does_harm_is_left_out_and_one_of_use_stays(model: LanguageModel) -> None:
    exact = prefill(model, CONTEXT)
    teacher = Teacher(model, exact, pack_rows([*ROWS, *VALIDATION]))
    student = student_of(model, listener_of(model, exact))
    ridge = Ridge([4] * model.card.layers)

    def solve(layer: int, fitting: object, validation: object) -> Delta | None:
        delta = ridge(layer, fitting, validation)  # type: ignore[arg-type]
        return delta if delta is None or layer else delta.times(-200.0)

    student.solve = solve
    walk(model, teacher, [student])
    assert student.deltas
    assert 0 not in student.deltas
    packs = [pack for pack in student.walker.packs if pack.validation]
    none, after = (said(model, exact, p, packs) for p in (nothing(model), student.prefix()))
    assert after < none


def test_probabilities_of_the_unlikely_taken_as_one_are_never_further_apart() -> None:
    """The log sum inequality; and what is known is at no distance from itself."""
    generator = torch.Generator().manual_seed(0)
    p, q = (3 * torch.randn(5, 300, generator=generator) for _ in range(2))
    model = tiny()
    rows = [Row([5, 6, 7], [5, 6, 7], [8, 9, 10])]
    known = answers_of(model, nothing(model), rows)
    (own,) = score(model, nothing(model), [rows[0].query], [rows[0].answer])
    assert float(kl_from(known, own).abs().max()) < 1e-5
    other = own + p[:3, : own.shape[1]] + q[:3, : own.shape[1]]
    true = (own.exp() * (own - other.log_softmax(-1))).sum(-1)
    found = kl_from(known, other)
    assert bool((found <= true + 1e-5).all())
    assert bool((found > 0.5 * true).all())
