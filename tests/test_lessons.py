"""What refinement learns from, against transformers' own pass over each row by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_patch import random_patch

from pcompiler.dynamics.distil import _apart, _weights
from pcompiler.dynamics.lessons import Lessons, say
from pcompiler.dynamics.packs import Row
from pcompiler.dynamics.student import ASKING_WEIGHT
from pcompiler.model import LanguageModel
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.patch import patched
from pcompiler.runtime.prefix import nothing, prefill

PROMPT = list(b"The workshop opens at nine and closes at five, except on Sundays.")
LED = 7  # the token that leads a query where no prompt does


def rows() -> list[Row]:
    made = []
    for query, answer in ((3, 2), (30, 6), (9, 1), (21, 6)):
        asked = list(range(65, 65 + query))
        made.append(Row(asked, [LED, *asked], list(range(97, 97 + answer))))
    return made


def alone(model: LanguageModel, before: list[int], text: list[int]) -> torch.Tensor:
    """(t, L − 1, d) of a text's tokens after every block but the last."""
    with torch.no_grad():
        out = model.hf.model(model.tensor([*before, *text]), output_hidden_states=True)
    return torch.stack(out.hidden_states[1:-1], 2)[0, len(before) :]


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_lessons_are_the_streams_and_answers_behind_the_full_prompt(family: str) -> None:
    model, some = tiny(family), rows()
    lessons = Lessons(model, prefill(model, PROMPT), some)
    for i, row in enumerate(some):
        text = [*row.query, *row.answer[:-1]]
        torch.testing.assert_close(
            lessons.streams(i), alone(model, PROMPT, text), rtol=1e-2, atol=1e-3
        )
        with torch.no_grad():
            logits = model.hf(model.tensor([*PROMPT, *text])).logits[0, -len(row.answer) :]
        likely = lessons.answers[i]
        wanted = logits.log_softmax(-1).gather(1, likely.ids)
        torch.testing.assert_close(likely.log_p[:, :-1], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_patch_alone_is_trained_on_what_it_runs_with(family: str) -> None:
    """Texts of several lengths side by side, filled up behind: each is as it would be alone."""
    model, some = tiny(family), rows()
    student = replace(nothing(model), patch=random_patch(model, seed=1))
    said = say(model, student, some)
    packed = PackedRow(model, student, len(some))
    texts = [[*row.bare, *row.answer[:-1]] for row in some]
    wanted = packed.extend(texts, range(len(some)), [len(row.answer) for row in some])
    torch.testing.assert_close(said.logits, wanted, rtol=1e-3, atol=1e-4)
    for row, text, stream in zip(some, texts, said.streams, strict=True):
        assert len(stream) == len(row.query) + len(row.answer) - 1  # without what leads it
        with patched(model, student.patch):
            torch.testing.assert_close(stream, alone(model, [LED], text[1:]), rtol=1e-3, atol=1e-4)


def test_streams_are_compared_token_by_token_and_sinks_are_left_out() -> None:
    row = rows()[0]
    assert _weights(row, bare=False).tolist() == pytest.approx([ASKING_WEIGHT] * 2 + [1.0] * 2)
    assert _weights(row, bare=True).tolist() == pytest.approx([0.0] * 2 + [1.0] * 2)
    wanted = torch.randn(4, 2, 8)
    assert _apart([wanted], [wanted], [row], bare=True) == 0
    assert _apart([2 * wanted], [wanted], [row], bare=True) == pytest.approx(1.0)
    moved = wanted.clone()
    moved[:2] += 100.0  # two sinks
    assert _apart([moved], [wanted], [row], bare=True) == 0
    assert _apart([moved], [wanted], [row], bare=False) > 1
