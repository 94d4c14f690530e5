"""Fitted targets from the command line: their options, their JSON, and what is refused at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., tuple[int, str, str]]
PROMPT = (
    "You are the desk. It opens at nine and closes at five.\n\nRepairs are 12 EUR on Mondays.\n"
)
HYBRID = ("--target", "hybrid", "--factor", 4, "--rank", 4)


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.md"
    path.write_text(PROMPT)
    return path


def queries(tmp_path: Path, name: str, *texts: str) -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps({"query": text}) + "\n" for text in texts))
    return path


def last(out: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return value


def test_a_hybrid_is_compiled_verified_run_and_shown(cli: Cli, prompt: Path) -> None:
    code, out, err = cli("compile", prompt, *HYBRID, "--json")
    summary = last(out)
    assert (code, err) == (0, "")
    assert (summary["target"], summary["fit"]["factor"], summary["fit"]["rank"]) == ("hybrid", 4, 4)
    assert set(summary["fit"]) >= {"strength", "validation_kl", "probes", "probes_hash"}
    assert summary["kept_tokens"] == round(summary["context_tokens"] / 4)
    name = summary["artifact"]
    code, out, err = cli("verify", name, "--json")
    fidelity = last(out)["fidelity"]
    assert code == 0, err
    for figure in ("kl", "agreement", "answer_tokens", "probes"):
        assert fidelity["measured"][figure] == fidelity["recorded"][figure]
    code, out, _ = cli("run", name, "When?", "--max-tokens", 6, "--compare", "--json")
    assert (code, set(last(out))) == (0, {"id", "query", "artifact", "full_prompt"})
    assert last(cli("store", "show", name, "--json")[1])["fit"] == summary["fit"]
    again = last(cli("compile", prompt, *HYBRID, "--json")[1])
    assert (again["cached"], again["fit"]) == (True, summary["fit"])


def test_more_probes_of_self_study_are_another_artifact(cli: Cli, prompt: Path) -> None:
    few, more = (
        last(cli("compile", prompt, *HYBRID, "--fitting", n, "--json")[1]) for n in (14, 28)
    )
    assert 12 <= few["fit"]["probes"] <= 14 < more["fit"]["probes"] <= 28
    assert few["artifact"] != more["artifact"]


def test_weights_keep_no_token_and_run_from_a_file(cli: Cli, prompt: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.pca"
    arguments = ("--target", "weights", "--rank", 2, "--strength", 0.5, "--out", path)
    code, out, err = cli("compile", prompt, *arguments, "--json")
    summary = last(out)
    assert (code, err) == (0, "")
    assert (summary["kept_tokens"], summary["fit"]["strength"]) == (0, 0.5)
    code, out, _ = cli("run", path, "When?", "--max-tokens", 6, "--store", tmp_path / "none")
    assert code == 0
    assert cli("verify", path)[0] == 0


def test_eight_bits_and_a_factor_make_smaller_artifacts(cli: Cli, prompt: Path) -> None:
    sizes = [
        last(cli("compile", prompt, *options, "--json")[1])["size_bytes"]
        for options in ((), ("--bits", 8), ("--factor", 4), ("--factor", 4, "--bits", 8))
    ]
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]


def test_another_rank_is_the_same_cache(cli: Cli, prompt: Path) -> None:
    first = last(cli("compile", prompt, "--factor", 4, "--json")[1])
    again = last(cli("compile", prompt, "--factor", 4, "--rank", 3, "--json")[1])
    other = last(cli("compile", prompt, "--factor", 5, "--json")[1])
    assert (again["cached"], again["artifact"]) == (True, first["artifact"])
    assert (other["cached"], other["artifact"] == first["artifact"]) == (False, False)


def test_probes_to_fit_on_are_the_users_and_none_of_the_held_out_ones(
    cli: Cli, prompt: Path, tmp_path: Path
) -> None:
    held_out = queries(tmp_path, "held.jsonl", "When?", "How much?")
    to_fit = queries(tmp_path, "fit.jsonl", "When?", "Where is it?", "Who are you?")
    both = ("--queries", held_out, "--fit-queries", to_fit)
    summary = last(cli("compile", prompt, *HYBRID, *both, "--json")[1])
    assert summary["fidelity"]["probes"] == 2
    without = last(cli("compile", prompt, *HYBRID, "--queries", held_out, "--json")[1])
    assert without["artifact"] != summary["artifact"]
    assert without["fit"]["probes_hash"] != summary["fit"]["probes_hash"]
    assert summary["fit"]["probes"] == without["fit"]["probes"] + 2  # "When?" is held out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--factor", "0.5"), "factor = 0.5"),
        (("--factor", "nan"), "factor = nan"),
        (("--factor", "ten"), "ten"),
        (("--rank", "0"), "rank = 0"),
        (("--rank", "1.5"), "1.5"),
        (("--strength", "2"), "strength = 2"),
        (("--strength", "-0.1"), "strength = -0.1"),
        (("--bits", "7"), "bits = 7"),
        (("--budget", "layers"), "budget = 'layers'"),
        (("--budget-bytes", "0"), "budget_bytes = 0"),
        (("--refine", "-1"), "refine = -1"),
        (("--fitting", "-1"), "fitting = -1"),
        (("--fit-queries", "/no/such/file"), "queries"),
    ],
)
def test_a_bad_value_is_refused_before_any_work(
    cli: Cli,
    prompt: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, str],
    words: str,
) -> None:
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("pcompiler.model.LanguageModel.load", no_work)
    for target in ("kv", "weights", "hybrid"):
        code, out, err = cli("compile", prompt, "--target", target, *options, "--json")
        assert (code, last(out)["exit_code"]) == (2, 2)
        assert err.startswith("pcompiler: ")
        assert words in err
    assert not (tmp_path / "store").exists()


def test_too_few_probes_or_bytes_are_refused_and_nothing_is_stored(
    cli: Cli, prompt: Path, tmp_path: Path
) -> None:
    code, _, err = cli("compile", prompt, *HYBRID, "--budget-bytes", 9)
    assert (code, "budget_bytes = 9 is too small" in err) == (2, True)
    settings = tmp_path / "tiny.toml"
    settings.write_text(settings.read_text().replace("fitting = 16", "fitting = 2"))
    code, _, err = cli("compile", prompt, *HYBRID)
    assert (code, "too few" in err) == (2, True)
    assert last(cli("store", "list", "--json")[1])["artifacts"] == []
