"""Target auto: the smallest artifact that is as faithful as asked, and exact if need be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pcompiler import search
from pcompiler.compiler import Compiler
from pcompiler.errors import ConfigError, GateMissed

PROMPT = (
    "The workshop opens at nine and closes at five, except on Sundays. Repairs cost 30 EUR an "
    "hour. Bring the receipt with you when you come to the desk, and ask for Mrs Abt."
)
QUERIES = ["When?", "What does a repair cost?", "Whom do I ask?"]


def test_what_is_found_meets_the_gate_and_is_the_smallest_tried_that_does(
    compiler: Compiler,
) -> None:
    found = compiler.search(PROMPT, QUERIES, max_kl=0.5)
    assert found.compiled.fidelity.kl <= 0.5
    smaller = [t for t in found.trials if t.size_bytes < found.compiled.header.body_bytes]
    assert not any(trial.met for trial in smaller)
    assert len(found.trials) < len(search.CANDIDATES), "bisection tries a few, not all"


def test_only_what_was_found_is_kept(compiler: Compiler) -> None:
    found = compiler.search(PROMPT, QUERIES, max_kl=2.0)
    assert [header.id for header in compiler.store.headers()] == [found.compiled.id]


def test_an_artifact_that_was_there_before_the_search_stays(compiler: Compiler) -> None:
    target, settings = search.CANDIDATES[-1]
    before = compiler.compile(PROMPT, target, QUERIES, **settings)
    compiler.search(PROMPT, QUERIES, max_kl=1e9)
    assert compiler.store.find(before.id) is not None


def test_one_that_was_there_and_misses_the_gate_does_not_end_the_search(
    compiler: Compiler,
) -> None:
    stored = [compiler.compile(PROMPT, t, QUERIES, **how).id for t, how in search.CANDIDATES[:-1]]
    found = compiler.search(PROMPT, QUERIES, min_agreement=1.0, max_kl=1e-4)
    assert found.compiled.header.target == "kv"
    assert any(not trial.met for trial in found.trials)
    assert all(compiler.store.find(artifact) for artifact in stored)


def test_a_strict_gate_falls_back_to_the_exact_cache(compiler: Compiler) -> None:
    found = compiler.search(PROMPT, QUERIES, min_agreement=1.0, max_kl=1e-4)
    assert found.compiled.header.target == "kv"
    assert found.compiled.header.kept_tokens == found.compiled.header.context_tokens


def test_a_text_that_is_one_whole_block_is_left_as_it_is(compiler: Compiler) -> None:
    block = "```\n" + "\n".join(f"total_{i} = price_{i} * 2" for i in range(8)) + "\n```\n"
    found = compiler.search(block, QUERIES, max_kl=1e9, target="text")
    assert [trial.settings for trial in found.trials] == [{"rate": None}]


def test_no_gate_is_refused_before_any_work(compiler: Compiler) -> None:
    with pytest.raises(ConfigError, match="min_agreement or max_kl"):
        compiler.search(PROMPT, QUERIES)


def test_a_gate_that_nothing_meets_says_what_was_reached(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "CANDIDATES", search.CANDIDATES[:1])
    with pytest.raises(GateMissed, match="above the 1e-06 asked for"):
        compiler.search(PROMPT, QUERIES, max_kl=1e-6)
    assert list(compiler.store.headers()) == []


def test_the_command_prints_the_trade_and_draws_it(cli, tmp_path: Path) -> None:  # noqa: ANN001
    pytest.importorskip("matplotlib")
    prompt, plot = tmp_path / "p.md", tmp_path / "trade.png"
    prompt.write_text(PROMPT)
    code, out, _ = cli("compile", prompt, "--target", "auto", "--max-kl", 1.0, "--plot", plot)
    assert code == 0
    assert "chosen" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    code, out, _ = cli("compile", prompt, "--target", "auto", "--max-kl", 1.0, "--json")
    assert any(trial["met"] for trial in json.loads(out.splitlines()[-1])["trials"])


def test_a_plot_without_a_search_is_refused(cli, tmp_path: Path) -> None:  # noqa: ANN001
    prompt = tmp_path / "p.md"
    prompt.write_text(PROMPT)
    code, _, err = cli("compile", prompt, "--plot", tmp_path / "x.png")
    assert code == 2
    assert "--target auto" in err
