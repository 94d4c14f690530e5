"""Prompts that are compiled side by side become what each would become alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny

from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Compiled, attach

PROMPTS = [
    "You are the desk.\n\nThe workshop opens at nine and closes at five. Repairs take a week.\n",
    "You sell tea.\n\nGreen tea is steeped for two minutes, black tea for four. Be brief.\n",
    "You are a guide.\n\nThe tower was built in 1889. The lift is closed on Mondays. The view is "
    "best at dusk, when the lamps are lit. Tickets are sold at the gate until seven.\n",
]


@pytest.fixture
def apart(model: LanguageModel, config: Config, tmp_path: Path) -> Iterator[Compiler]:
    """A compiler with a store of its own, for the same prompts one by one."""
    with Compiler(model=model, config=config, store=tmp_path / "apart") as made:
        yield made


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
