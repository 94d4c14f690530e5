"""The semantic half of the compression suite: limits, texts, and the rate's error as measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcompiler.bench import corpora, reference, semantic
from pcompiler.bench.corpora import Corpus, File
from pcompiler.bench.semantic import Likeness
from pcompiler.embed.encoder import Encoder
from pcompiler.model import LanguageModel

LINE = "The workshop opens at nine. Repairs cost 30 EUR an hour, and bells are sold there.\n"


def corpus(*texts: str) -> Corpus:
    files = tuple(File(f"f{i}", text.encode()) for i, text in enumerate(texts))
    return Corpus(corpora.DOCS, "test", files, files)


@pytest.mark.parametrize(
    ("changed", "good"),
    [({}, True), ({"bleu": 0.93}, False), ({"cosine": 0.96}, False), ({"loss": 0.031}, False)],
)
def test_all_three_published_measures_have_to_hold(changed: dict[str, float], good: bool) -> None:
    as_published = {"bleu": reference.BLEU, "cosine": reference.COSINE, "loss": 0.0}
    assert Likeness(0.1, 0.5, **(as_published | changed)).good is good


def test_texts_end_with_a_line_and_short_files_are_left_out() -> None:
    (text,) = semantic._texts(corpus("short\n", LINE * 100, LINE * 100 + "x"), 1)
    assert text.endswith(".\n")
    assert semantic.CHARACTERS - len(LINE) < len(text) <= semantic.CHARACTERS


@pytest.mark.slow
@pytest.mark.model
def test_what_is_reported_as_like_its_original_is(smollm2: LanguageModel) -> None:
    text = (Path(__file__).parents[1] / "examples" / "support_desk.md").read_text()[:2500]
    best = semantic._best(text, corpora.DOCS, smollm2, Encoder.load("cpu"))
    assert best is not None
    assert best.good
    assert 0 < best.saved < 0.1
    assert best.stored > best.saved


@pytest.mark.model
def test_the_rates_error_is_under_two_percent_with_real_tokens(smollm2: LanguageModel) -> None:
    (figure,) = semantic._met(
        smollm2, corpus(LINE * 30 + "# Bells\n\n- one bell\n- two bells\n\n" + LINE * 500)
    )
    assert 0 <= figure.value < 2
