"""The text target with a model: rates, rankings, what the user asks, search, what it is worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import tiny

from pcompiler.commands.output import break_even, report
from pcompiler.compiler import Compiler
from pcompiler.dynamics import salience
from pcompiler.dynamics.packs import Row
from pcompiler.errors import BudgetError, ConfigError
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import prefill

Cli = Callable[..., tuple[int, str, str]]
PROMPT = (
    "# Desk\n\nThe workshop opens at nine and closes at five, except on Sundays. Repairs cost "
    "30 EUR an hour, and you never pay in advance. Bring the receipt with you when you come.\n\n"
    "# Bells\n\nBells are sold at the desk. Ask for Mrs Abt, who knows all about them. A bell "
    "costs 12 EUR and rings for many years. Some bells are red, others are blue.\n"
)
QUERIES = ["When?", "What does a repair cost?", "Whom do I ask?"]


@pytest.mark.parametrize("ranking", ["probes", "surprise", "lexical"])
@pytest.mark.parametrize("rate", [0.8, 0.5, 0.35])
def test_the_header_has_the_rate_that_was_asked_for(
    compiler: Compiler, ranking: str, rate: float
) -> None:
    done = compiler.compile(PROMPT, "text", QUERIES, rate=rate, ranking=ranking, protect="none")
    header = done.header
    assert header.kept_tokens / header.context_tokens == pytest.approx(rate, rel=0.02)
    assert header.fit["ranking"] == ranking
    with compiler.session(done) as session:
        assert isinstance(session.generate("When?", max_tokens=3), str)


def test_tokens_can_be_asked_for_and_too_few_are_refused_with_nothing_stored(
    compiler: Compiler,
) -> None:
    done = compiler.compile(PROMPT, "text", QUERIES, target_tokens=150)
    assert done.header.kept_tokens in (149, 150)
    count = len(list(compiler.store.headers()))
    with pytest.raises(BudgetError, match="more than the 3 asked for"):
        compiler.compile(PROMPT, "text", QUERIES, target_tokens=3)
    assert len(list(compiler.store.headers())) == count
    whole = compiler.compile(PROMPT, "text", QUERIES, target_tokens=100_000).header
    assert whole.kept_tokens == whole.context_tokens


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1.01}, {"rate": -1.0}])
def test_a_rate_that_is_no_share_is_refused(compiler: Compiler, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        compiler.compile(PROMPT, "text", QUERIES, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give one of them"):
        compiler.compile(PROMPT, "text", QUERIES, rate=0.5, target_tokens=10)


def test_a_rate_of_one_is_the_text_that_lost_nothing(compiler: Compiler) -> None:
    assert compiler.compile(PROMPT, "text", QUERIES, rate=1.0).id == (
        compiler.compile(PROMPT, "text", QUERIES).id
    )


def test_the_same_compile_gives_the_same_bytes(model: LanguageModel, compiler: Compiler) -> None:
    first = compiler.compile(PROMPT, "text", QUERIES, rate=0.5).header
    with Compiler(model=model, store=compiler.store, config=compiler.config) as other:
        compiler.store.delete(first.id)
        again = other.compile(PROMPT, "text", QUERIES, rate=0.5).header
    assert (again.id, again.body_sha256) == (first.id, first.body_sha256)


def test_what_the_user_asks_is_part_of_the_address_where_it_ranks(compiler: Compiler) -> None:
    plain = compiler.compile(PROMPT, "text", QUERIES, rate=0.4)
    asked = compiler.compile(PROMPT, "text", QUERIES, rate=0.4, fit_queries=["Which bells?"])
    assert asked.id != plain.id
    lexical = [
        compiler.compile(PROMPT, "text", QUERIES, rate=0.4, ranking="lexical", fit_queries=q).id
        for q in (None, ["Which bells?"])
    ]
    assert lexical[0] == lexical[1], "what does not go by them has the same address"


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_surprise_is_what_transformers_own_loss_says(family: str) -> None:
    model, ids = tiny(family), list(b"The bell rings.")
    found = salience.by_surprise(model, ids)
    tokens = model.tensor(ids)
    with torch.no_grad():
        loss = model.hf(input_ids=tokens, labels=tokens).loss
    assert found[0] == 0
    assert float(found[1:].mean()) == pytest.approx(float(loss), rel=1e-4)


def test_salience_is_of_what_attention_would_miss() -> None:
    """A key that no probe can see in a window matters nothing; with more layers it adds up."""
    model = tiny("mistral")
    prefix = prefill(model, list(range(2, 62)))
    found = salience.by_probes(model, prefix, [Row([5, 6, 7], [5, 6, 7], [0])])
    window = 16
    assert found.shape == (60,)
    assert torch.all(found[: 60 - window] == 0)
    assert torch.all(found[-window + 3 :] > 0)


def test_a_gate_without_a_rate_finds_the_lowest_rate(compiler: Compiler) -> None:
    gate = compiler.compile(PROMPT, "text", QUERIES, rate=0.6, protect="none")
    compiler.store.delete(gate.id)
    kl = gate.fidelity.kl
    found = compiler.search(PROMPT, QUERIES, max_kl=kl, target="text", protect="none")
    assert found.compiled.fidelity.kl <= kl
    assert found.compiled.header.target == "text"
    met = {trial.settings["rate"]: trial.met for trial in found.trials}
    assert len(met) > 2
    chosen = found.compiled.header.kept_tokens / found.compiled.header.context_tokens
    assert not any(good for rate, good in met.items() if rate and rate < chosen - 0.02)
    assert [h.id for h in compiler.store.headers()] == [found.compiled.id]


def test_near_repetitions_go_only_if_nothing_that_counts_differs(compiler: Compiler) -> None:
    rule = "Bring the receipt with you when you come to the desk on any day of the week"
    source = f"{PROMPT}\n{rule}.\n\n{rule} please.\n\n{rule} at 5.\n\n{rule}, but not now please.\n"
    done = compiler.compile(source, "text", QUERIES, duplicates="near")
    shown = bytes(compiler.store.get(done.id).tensors()["text"].tolist()).decode()
    assert shown.count(rule) == 3
    assert "please.\n\nBring" not in shown
    exact = compiler.compile(source, "text", QUERIES)
    assert exact.header.kept_tokens > done.header.kept_tokens


def test_it_says_from_when_on_compiling_pays_and_when_it_never_does(compiler: Compiler) -> None:
    header = compiler.compile(PROMPT, "text", QUERIES, rate=0.5).header
    assert {"compile_s", "ttft_s", "full_ttft_s"} <= header.timing.keys()
    fast = replace(header, timing={"compile_s": 3.0, "ttft_s": 1.0, "full_ttft_s": 2.0})
    assert break_even(fast) == 3
    assert "pays from request 3 on" in report(fast)
    slow = replace(header, timing={"compile_s": 3.0, "ttft_s": 2.0, "full_ttft_s": 2.01})
    assert break_even(slow) is None
    assert "not worth compiling" in report(slow)
    old = replace(header, timing={"compile_s": 3.0, "ttft_s": 2.0})
    assert break_even(old) is None
    assert "worth" not in report(old)


def test_the_command_shows_what_was_dropped(cli: Cli, tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "p.md").write_text(PROMPT)
    command = ["compile", "p.md", "--target", "text", "--rate", "0.5", "--protect", "none"]
    code, out, _ = cli(*command, "--diff", "--diff-html", "d.html")
    assert code == 0
    assert "[-" in out
    page = (folder / "d.html").read_text()
    assert "<del>" in page
    assert page.count("<del>") == page.count("</del>")
    code, out, _ = cli(*command, "--diff", "--json")
    told = json.loads(out.splitlines()[-1])
    assert code == 0
    assert "".join(t for sign, t in told["diff"] if sign in " -").endswith(PROMPT + "<|im_end|>\n")
    assert {"break_even_requests", "full_ttft_s", "fit"} <= told.keys()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "kv", "--diff"], "give --target text"),
        (["--target", "text", "--rate", "0"], "above 0 and at most 1"),
        (["--target", "text", "--rate", "0.5", "--protect", "x"], "x is not one of placeholders"),
        (["--target", "text", "--rate", "0.5", "--section", "Rules=9"], "NAME=RATE"),
        (["--target", "text", "--rate", "0.5", "--section", "Rules"], "it has: bells, desk"),
        (["--target", "text", "--diff-html", "no/where.html"], "its folder does not exist"),
    ],
)
def test_wrong_options_are_refused_before_work_starts(
    cli: Cli, tmp_path: object, words: list[str], told: str
) -> None:
    from pathlib import Path

    (Path(str(tmp_path)) / "p.md").write_text(PROMPT)
    code, _, err = cli("compile", "p.md", *words)
    assert code == 2
    assert told in err


def test_the_gate_chooses_the_rate_on_the_command_line(cli: Cli, tmp_path: object) -> None:
    from pathlib import Path

    (Path(str(tmp_path)) / "p.md").write_text(PROMPT)
    code, out, _ = cli("compile", "p.md", "--target", "text", "--max-kl", "0.5", "--json")
    told = json.loads(out.splitlines()[-1])
    assert code == 0
    assert told["fidelity"]["kl"] <= 0.5
    assert all(trial["target"] == "text" for trial in told["trials"])
