"""Students: what was walked is what runs, in every family; what is kept decides how near."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_walk import CONTEXT, ROWS, by_runtime, error

from pcompiler.device import pick
from pcompiler.dynamics import stream
from pcompiler.dynamics.capture import Teacher, Walker
from pcompiler.dynamics.matching import most_important, most_important_of_all
from pcompiler.dynamics.moments import Moments
from pcompiler.dynamics.packs import ASKED_WEIGHT, Row, pack_rows
from pcompiler.dynamics.ridge import Ridge
from pcompiler.dynamics.student import ASKING_WEIGHT, SINK_TOKENS, Student, walk
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import prefill
from pcompiler.targets.encoding import CACHE, PATCH, from_tensors, to_tensors

LATE = 24  # past the windows of the test models: a query then sees no more of the context


def student_of(
    model: LanguageModel, teacher: Teacher, factor: float | None, rank: int, matched: bool = True
) -> Student:
    """A student on its way behind a teacher; no factor: without a cache."""
    solve = Ridge([rank] * model.card.layers) if rank else None
    if factor is None:
        return Student(Walker(model, pack_rows(ROWS, bare=True), 0), solve=solve)
    walker = Walker(model, teacher.packs, teacher.start)
    return Student(walker, lambda _, t: most_important(t.importance, factor), matched, solve)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
@pytest.mark.parametrize("matched", [False, True])
def test_a_student_that_keeps_all_keys_is_the_teacher(family: str, matched: bool) -> None:
    model = tiny(family)
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS))
    student = student_of(model, teacher, 1.0, 0, matched)
    walk(model, teacher, [student])
    for i, pack in enumerate(teacher.packs):
        # Matched, a ridge of 1e-3 draws the masses of keys that no probe reads from one.
        assert error(student.walker.h[i], teacher.h[i]) < (1e-2 if matched else 1e-6)
        assert error(by_runtime(model, student.prefix(), pack), student.walker.h[i]) < 1e-5


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
@pytest.mark.parametrize(("factor", "rank"), [(8.0, 0), (8.0, 5), (None, 5), (1000.0, 3)])
def test_what_a_student_walked_is_what_its_artifact_runs(
    family: str, factor: float | None, rank: int
) -> None:
    """β, values, patch, windows and positions, in memory and as written down."""
    model = tiny(family)
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS))
    student = student_of(model, teacher, factor, rank)
    walk(model, teacher, [student])
    prefix = student.prefix()
    assert (prefix.patch is not None) == (rank > 0)
    halves = (CACHE if factor else frozenset()) | (PATCH if rank else frozenset())
    stored = from_tensors(model, to_tensors(prefix, windows=True), halves)
    for i, pack in enumerate(student.walker.packs):
        walked = student.walker.h[i]
        assert error(by_runtime(model, prefix, pack), walked) < 1e-5
        assert error(by_runtime(model, stored, pack), walked) < 2e-2  # rounded to 16 bit
        if i == 0:  # and it is not the teacher, or the test shows nothing
            twins = teacher.h[i][pack.twin[pack.twin >= 0]]
            assert error(walked[pack.twin >= 0], twins) > 1e-2


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_budget_for_all_layers_runs_as_it_walked(family: str) -> None:
    """Heads and layers with unlike numbers of keys: what pads them weighs nothing."""
    model = tiny(family)
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS))
    kept = most_important_of_all(teacher.record(), 4.0)
    student = Student(Walker(model, teacher.packs, teacher.start), lambda layer, _: kept[layer])
    walk(model, teacher, [student])
    prefix = student.prefix()
    assert any((layer < 0).any() for layer in kept)
    for i, pack in enumerate(teacher.packs):
        assert error(by_runtime(model, prefix, pack), student.walker.h[i]) < 1e-5


def test_a_walk_that_was_recorded_gives_what_one_side_by_side_does(model: LanguageModel) -> None:
    students, teachers = [], []
    for recorded in (False, True):
        teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS))
        if recorded:
            assert teacher.record().shape == (model.card.layers, model.card.kv_heads, len(CONTEXT))
        students.append(student_of(model, teacher, 4.0, 4))
        teachers.append(teacher)
        walk(model, teacher, students[-1:])
    for i in range(len(teachers[0].packs)):
        assert torch.equal(teachers[0].h[i], teachers[1].h[i])
        assert torch.equal(students[0].walker.h[i], students[1].walker.h[i])


def test_a_query_past_the_window_does_not_see_the_context() -> None:
    """Mistral with a window of 16: after 24 tokens of its own a query is as if alone."""
    model = tiny("mistral", num_hidden_layers=1)
    long = Row(list(range(10, 10 + LATE)), list(range(10, 10 + LATE)), [7, 8])
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows([long, long]))
    student = student_of(model, teacher, 4.0, 0)
    walk(model, teacher, [student])
    assert torch.equal(student.walker.h[0][LATE - 4 : LATE], teacher.h[0][LATE - 4 : LATE])
    assert not torch.equal(student.walker.h[0][:4], teacher.h[0][:4])


def test_streams_in_a_file_are_those_in_memory(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walked() -> list[torch.Tensor]:
        teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS))
        student = student_of(model, teacher, 4.0, 4)
        walk(model, teacher, [student])
        return [h[i] for h in (teacher.h, student.walker.h) for i in range(2)]

    in_memory = walked()
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", 0)
    on_disk = walked()
    assert all(torch.equal(a, b) for a, b in zip(in_memory, on_disk, strict=True))


def test_a_student_without_a_cache_wants_nothing_of_its_sink(model: LanguageModel) -> None:
    """Its first tokens weigh 1/‖y‖², the others that the teacher has by 1/‖y_C‖² and place."""
    seen: list[Moments] = []
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS))
    student = student_of(model, teacher, None, 2)
    student.solve = lambda _layer, fitting, _validation: seen.append(fitting)
    walk(model, teacher, [student])
    weight = wanted = 0.0
    for i, pack in enumerate(student.walker.packs):
        sink, own, twin = pack.offset < SINK_TOKENS, student.walker.h[i], teacher.h[i][pack.twin]
        size = torch.where(sink, own.square().sum(-1), twin.square().sum(-1))
        share = torch.where(pack.answering | sink, 1.0, ASKING_WEIGHT)
        w = share / size * (sink | (pack.twin >= 0)) * (not pack.validation)
        weight += float(w.sum())
        wanted += float((w * (~sink) * (twin - own).square().sum(-1)).sum())
    assert seen[-1].weight == pytest.approx(weight, rel=1e-4)
    assert seen[-1].tt == pytest.approx(wanted, rel=1e-4)


def test_the_tokens_that_answer_are_the_last_of_a_query_and_all_but_the_last_of_an_answer() -> None:
    for alone in (False, True):
        for pack in pack_rows(ROWS, bare=alone):
            texts = [(row.bare if alone else row.query, row.answer) for row in pack.rows]
            want = [i >= len(q) - 1 for q, a in texts for i in range(len(q) + len(a) - 1)]
            assert pack.answering.tolist() == want


def test_a_model_in_half_precision_is_walked_and_run_alike() -> None:
    half = LanguageModel.from_objects(tiny().hf, tiny().tokenizer, pick("cpu", "bfloat16"))
    exact = prefill(half, CONTEXT)
    teacher = Teacher(half, exact, pack_rows(ROWS))
    student = student_of(half, teacher, 8.0, 5)
    walk(half, teacher, [student])
    ran = by_runtime(half, student.prefix(), teacher.packs[0])
    assert ran.dtype is torch.bfloat16
    rounding = error(by_runtime(half, exact, teacher.packs[0]), teacher.h[0])
    assert error(ran, student.walker.h[0]) < 2 * rounding < 0.2


def test_a_probe_of_the_users_counts_as_three_of_self_study(model: LanguageModel) -> None:
    """In the choice of keys, in their masses and values, and in the patch."""
    first, rest = ROWS[0], [row for row in ROWS[1:] if not row.validation]

    def fitted(rows: list[Row]) -> Student:
        teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(rows))
        student = student_of(model, teacher, 8.0, 3)
        walk(model, teacher, [student])
        return student

    once = fitted([replace(first, asked=True), *rest]).prefix()
    thrice = fitted([*[first] * int(ASKED_WEIGHT), *rest]).prefix()
    plain = fitted([first, *rest]).prefix()
    for name in ("keys", "values", "bias"):
        torch.testing.assert_close(getattr(once, name), getattr(thrice, name), rtol=1e-2, atol=1e-3)
    assert once.patch is not None
    assert thrice.patch is not None
    for layer, delta in once.patch.deltas.items():
        other = thrice.patch.deltas[layer]
        assert error(delta.b @ delta.a, other.b @ other.a) < 0.02
    assert not torch.allclose(once.values, plain.values, atol=1e-3)
