"""Prompts that are compiled side by side become what each would become alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny

from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.errors import ConfigError, GateMissed, InputError
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Compiled, attach
from pcompiler.runtime import batch
from pcompiler.store.artifact import Artifact
from pcompiler.targets.base import Compilation

PROMPTS = [
    "You are the desk.\n\nThe workshop opens at nine and closes at five. Repairs take a week.\n",
    "You sell tea.\n\nGreen tea is steeped for two minutes, black tea for four. Be brief.\n",
    "You are a guide.\n\nThe tower was built in 1889. The lift is closed on Mondays. The view is "
    "best at dusk, when the lamps are lit. Tickets are sold at the gate until seven.\n",
]


def compiled(outcome: Compiled | Exception) -> Compiled:
    assert isinstance(outcome, Compiled), outcome
    return outcome


@pytest.mark.parametrize("target", ["kv", "text", "weights", "hybrid"])
@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_each_becomes_what_it_becomes_alone(
    family: str, target: str, config: Config, tmp_path: Path
) -> None:
    if target == "text" and family != "llama":
        pytest.skip("the same passes for all families")
    model, settings = tiny(family), {"factor": 4.0} if target in ("kv", "hybrid") else {}
    with (
        Compiler(model=model, config=config, store=tmp_path / "a") as one_by_one,
        Compiler(model=model, config=config, store=tmp_path / "b") as group,
    ):
        alone = [one_by_one.compile(p, target=target, **settings) for p in PROMPTS]
        outcomes = list(group.compile_many(PROMPTS, target=target, **settings))
        for want, outcome in zip(alone, outcomes, strict=True):
            got = compiled(outcome)
            assert got.id == want.id
            assert got.header.probes_hash == want.header.probes_hash
            assert got.header.kept_tokens == want.header.kept_tokens
            assert got.header.timing["group"] == len(PROMPTS)
            assert got.fidelity.answer_tokens == want.fidelity.answer_tokens
            assert math.isclose(got.fidelity.kl, want.fidelity.kl, rel_tol=2e-2, abs_tol=1e-4)
            ours = attach(model, group.store.get(got.id))
            theirs = attach(model, one_by_one.store.get(want.id))
            if want.fidelity.kl:
                torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-2, atol=1e-2)
            if theirs.positions is not None:
                assert ours.positions is not None
                assert torch.equal(ours.positions, theirs.positions)


def test_one_that_fails_stops_no_other(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once, unfit in the middle of the work, and a text that is no Unicode."""
    fit = Compilation.fitting.compute

    def refusing(compilation: Compilation) -> object:
        if "tea" in compilation.prompt.messages[0].content:
            raise InputError("no questions about tea.")
        return fit(compilation)

    monkeypatch.setattr(Compilation.fitting, "compute", refusing)
    sources = [PROMPTS[0], "long " * 2000, PROMPTS[1], "\ud800", PROMPTS[2]]
    got = list(compiler.compile_many(sources, target="hybrid", factor=4.0))
    assert [type(one) for one in got] == [
        *(Compiled, InputError, InputError, UnicodeEncodeError, Compiled)
    ]
    stored = {header.id for header in compiler.store.headers()}
    assert stored == {compiled(got[0]).id, compiled(got[4]).id}


def test_where_a_step_for_all_fails_each_is_made_alone(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A step that fails half way, after some layers have taken in its tokens, is undone."""
    taken = 0
    run = batch.run

    def failing(model: LanguageModel, parts: list[batch.Part]) -> torch.Tensor:
        nonlocal taken
        taken += len(parts) > 1
        result = run(model, parts)
        if len(parts) > 1 and taken % 3 == 0:
            raise MemoryError("no room for all of them.")
        return result

    with Compiler(model=compiler.model, config=compiler.config, store=tmp_path / "b") as other:
        want = [compiled(one) for one in other.compile_many(PROMPTS, target="kv", factor=4.0)]
    monkeypatch.setattr(batch, "run", failing)
    got = [compiled(one) for one in compiler.compile_many(PROMPTS, target="kv", factor=4.0)]
    assert taken > 9
    for ours, theirs in zip(got, want, strict=True):
        assert ours.header.probes_hash == theirs.header.probes_hash
        assert math.isclose(ours.fidelity.kl, theirs.fidelity.kl, rel_tol=2e-2, abs_tol=1e-4)


def test_the_same_group_gives_the_same_bytes(
    model: LanguageModel, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    encoded: list[list[bytes]] = []
    for name in ("a", "b"):
        with Compiler(model=model, config=config, store=tmp_path / name) as compiler:
            done = map(compiled, compiler.compile_many(PROMPTS, target="hybrid", factor=4.0))
            artifacts = [compiler.store.get(one.id) for one in done]
        untimed = [Artifact(replace(a.header, timing={}), a.body).encode() for a in artifacts]
        encoded.append(untimed)
    assert encoded[0] == encoded[1]


def test_what_comes_twice_or_is_known_is_compiled_once(compiler: Compiler) -> None:
    known = compiler.compile(PROMPTS[0])
    sources = [PROMPTS[1], PROMPTS[0], PROMPTS[1], PROMPTS[2]]
    got = [compiled(one) for one in compiler.compile_many(iter(sources), group=2)]
    assert [one.cached for one in got] == [False, True, True, False]
    assert got[1].id == known.id
    assert got[0].id == got[2].id
    assert len(list(compiler.store.headers())) == 3


def test_a_gate_holds_for_each_by_itself(compiler: Compiler) -> None:
    alike = [compiled(one) for one in compiler.compile_many(PROMPTS, target="weights")]
    least = sorted(one.fidelity.kl for one in alike)[1]
    for one in alike:
        compiler.store.delete(one.id)
    got = list(compiler.compile_many(PROMPTS, target="weights", max_kl=least * 1.01))
    passed = [isinstance(one, Compiled) for one in got]
    assert passed == [one.fidelity.kl <= least * 1.01 for one in alike]
    assert sum(isinstance(one, GateMissed) for one in got) == passed.count(False)


def test_a_group_out_of_range_is_refused_before_work_starts(compiler: Compiler) -> None:
    for group in (0, 257):
        with pytest.raises(ConfigError, match="from 1 to 256"):
            compiler.compile_many(PROMPTS, group=group)
    with pytest.raises(ConfigError):
        compiler.compile_many(PROMPTS, target="kv", factor=0.5)
