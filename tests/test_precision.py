"""Models in bfloat16 and float16: statistics are float32, and fidelity is what it is in float32."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny
from sums import Sums

from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig, StoreConfig
from pcompiler.device import pick
from pcompiler.ir import Fidelity
from pcompiler.model import LanguageModel
from pcompiler.ops import gram

SOURCE = "You are the desk of a shop. We open at nine. Bells cost 4 euros. Repairs take two days. "
QUERIES = [
    f"{start} {link} the {noun}?"
    for start in ("When is", "What", "Do you", "How much")
    for link in ("about", "with", "of")
    for noun in ("open", "bells", "cost", "repairs", "shop")
]
TARGETS: dict[str, dict[str, Any]] = {
    "kv": {"factor": 1.5},
    "hybrid": {"factor": 1.5, "rank": 4, "strength": 1.0},
}
PROBES = ProbeConfig(fitting=18, query_tokens=8, answer_tokens=16)
SEEDS = (0, 1)


def in_dtype(dtype: str, seed: int = 0, family: str = "llama") -> LanguageModel:
    plain = tiny(family, seed=seed, initializer_range=0.15)
    return LanguageModel.from_objects(plain.hf, plain.tokenizer, pick("cpu", dtype), "tiny")


@cache
def measured(dtype: str, target: str, folder: Path) -> tuple[float, float]:
    """KL and agreement over the answer tokens of all models."""
    found: list[Fidelity] = []
    for seed in SEEDS:
        config = Config(probes=PROBES, store=StoreConfig(path=str(folder / f"{dtype}-{seed}")))
        with Compiler(model=in_dtype(dtype, seed), config=config) as compiler:
            settings = TARGETS[target]
            found.append(compiler.compile(SOURCE * 2, target, queries=QUERIES, **settings).fidelity)
    tokens = sum(f.answer_tokens for f in found)
    return (
        sum(f.kl * f.answer_tokens for f in found) / tokens,
        sum(f.agreement * f.answer_tokens for f in found) / tokens,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("precision")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("target", TARGETS)
def test_fidelity_in_16_bit_is_within_a_point_of_agreement_of_float32(
    dtype: str, target: str, folder: Path
) -> None:
    """1,900 answer tokens each; float16 keeps the KL too, bfloat16 adds its own rounding."""
    kl, agreement = measured("float32", target, folder)
    half_kl, half_agreement = measured(dtype, target, folder)
    assert abs(half_agreement - agreement) <= 0.01
    assert half_kl <= (1.1 if dtype == "float16" else 1.5) * kl


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("target", ["kv", "weights", "hybrid"])
def test_all_that_is_added_up_in_fitting_is_float32(
    target: str, family: str, dtype: str, config: Config
) -> None:
    probes = replace(config.probes, self_study=2, fitting=12, answer_tokens=4)
    settings = TARGETS.get(target, {"rank": 4})
    model = in_dtype(dtype, family=family)
    with Sums() as sums, Compiler(model=model, config=replace(config, probes=probes)) as compiler:
        compiler.compile(SOURCE, target, **settings)
    assert not sums.halves
    assert sums.whole > 100


def test_a_sum_in_16_bit_would_be_seen() -> None:
    with Sums() as sums:
        gram(torch.ones(8, 8, dtype=torch.bfloat16))
    assert {line.split(":")[0] for line in sums.halves} == {"mm at ops.py"}
