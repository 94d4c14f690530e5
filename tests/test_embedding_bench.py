"""The embedding suite's texts and workload, and how its peers are run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from test_encoder import tiny_encoder

from benches.peers import run_embeddings
from pcompiler.bench import sentences
from pcompiler.bench.harness import Setting
from pcompiler.bench.suites import embedding_generation as suite
from pcompiler.device import pick


def test_texts_have_about_the_length_asked_for_and_are_drawn_alike_each_time() -> None:
    words = tiny_encoder().tokenizer
    found = sentences.texts(words, 16, 60)
    assert found == sentences.texts(words, 16, 60)
    assert len(set(found)) == 60
    lengths = [len(words.encode(text, add_special_tokens=False).ids) + 2 for text in found]
    assert max(lengths) <= 24
    assert 12 <= sum(lengths) / 60 <= 20


def test_the_first_text_is_asked_for_twice_as_often_as_the_second() -> None:
    counts = Counter(sentences.zipf(50, 50_000))
    assert set(counts) <= set(range(50))
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)


def test_without_their_environment_the_peers_are_skipped_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_embeddings.static, "ready", lambda: tmp_path)
    monkeypatch.setattr(run_embeddings.Encoder, "load", lambda _: tiny_encoder())
    monkeypatch.setattr(type(run_embeddings.minilm.WHEEL), "folder", lambda _: tmp_path)
    assert run_embeddings.peers(tmp_path / "no" / "python", 1, 1) == []
    assert "skipped" in capsys.readouterr().err


def test_peers_rows_become_figures_and_a_failure_none() -> None:
    row = {"peer": "p", "texts": "short", "wall_s": [2.0, 1.0, 4.0], "cpu_s": [1.0], "error": None}
    (figure,) = run_embeddings.figures([row, {"peer": "q", "failure": "no"}])
    assert (figure.name, figure.value) == ("p, short", 50)


@pytest.mark.model
def test_the_suite_measures_every_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "BATCH", 10)
    monkeypatch.setattr(suite, "QUICK_DISTINCT", 20)
    monkeypatch.setattr(suite, "QUICK_REQUESTS", 100)
    found = suite.run(Setting(pick("cpu", "float32"), 1, True))
    names = [figure.name for figure in found]
    for name in ("encoder", "static"):
        assert f"{name}, short, cold" in names
        assert any(n.startswith(f"{name}, workload") for n in names)
    assert all(figure.value > 0 for figure in found)
