"""Fitted targets on the real model, for a role prompt: the kind where a careless patch hurts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benches.ladder_contexts import example
from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig
from pcompiler.ir import Fidelity
from pcompiler.model import LanguageModel

pytestmark = pytest.mark.model
LADDER = Path(__file__).parent.parent / "examples" / "ladder"
ROLE = example(LADDER / "library_host.context.json")
NOISE = 1.1  # of KL, on eight probes


@pytest.fixture(scope="module")
def compiler(
    smollm2: LanguageModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compiler]:
    store = tmp_path_factory.mktemp("fitted") / "s"
    config = Config(probes=ProbeConfig(fitting=24))
    with Compiler(model=smollm2, store=store, config=config) as made:
        yield made


def fidelity(compiler: Compiler, target: str, **settings: object) -> Fidelity:
    queries = [*ROLE.held_out[:8], *ROLE.uncovered[:2]]
    return compiler.compile(ROLE.source, target, queries, **settings).fidelity  # type: ignore[arg-type]


def test_no_artifact_is_worse_than_the_same_without_its_patch_or_than_no_prompt(
    compiler: Compiler,
) -> None:
    cache = fidelity(compiler, "kv", factor=10)
    hybrid = fidelity(compiler, "hybrid", factor=10)
    weights = fidelity(compiler, "weights", rank=16)
    assert cache.kl < 0.1 * cache.kl_no_prompt
    assert hybrid.kl < NOISE * cache.kl
    assert weights.kl < 0.5 * weights.kl_no_prompt


def test_a_global_budget_beats_as_many_keys_for_every_head(compiler: Compiler) -> None:
    even = fidelity(compiler, "kv", factor=10, budget="head")
    assert fidelity(compiler, "kv", factor=10).kl < even.kl


def test_eight_bits_cost_next_to_nothing(compiler: Compiler) -> None:
    whole = fidelity(compiler, "kv", factor=10)
    assert fidelity(compiler, "kv", factor=10, bits=8).kl < 1.2 * whole.kl + 1e-3


def test_products_in_bfloat16_move_fidelity_by_less_than_so_few_tokens_can_tell(
    smollm2: LanguageModel, tmp_path: Path
) -> None:
    found = {}
    for precision in ("model", "bfloat16"):
        config = Config(probes=ProbeConfig(fitting=16, precision=precision))
        with Compiler(model=smollm2, store=tmp_path / precision, config=config) as compiler:
            queries = ROLE.held_out[:14]
            found[precision] = compiler.compile(ROLE.source, "kv", queries, factor=10).fidelity
    exact, rounded = found["model"], found["bfloat16"]
    assert exact.answer_tokens == rounded.answer_tokens > 250
    # Of 323 tokens a point is three; sums in another order alone move that many.
    error = math.sqrt((2 - exact.agreement - rounded.agreement) / exact.answer_tokens)
    assert abs(rounded.agreement - exact.agreement) < 0.01 + 2 * error
    assert abs(rounded.kl - exact.kl) < 0.2 * exact.kl
    assert rounded.kl != exact.kl  # else nothing was rounded
