"""Memory of a compile grows with the prompt, not with its square."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import tiny
from live import Live

from pcompiler.compiler import Compiler
from pcompiler.config import Config

SENTENCE = "Bells cost 4 euros and repairs take two days. "
LONG = {"max_position_embeddings": 16_384}


def peak(target: str, times: int, config: Config) -> int:
    """Most bytes of tensors at once, beside the model's weights."""
    probes = replace(config.probes, self_study=2, fitting=12, answer_tokens=4)
    store = replace(config.store, path=f"{config.store.path}-{times}")
    with (
        Compiler(model=tiny(**LONG), config=replace(config, probes=probes, store=store)) as made,
        Live() as live,
    ):
        made.compile(SENTENCE * times, target, factor=10.0, budget="head")
    return live.peak


@pytest.mark.parametrize("target", ["kv", pytest.param("hybrid", marks=pytest.mark.slow)])
def test_peak_memory_of_tensors_is_linear_in_the_prompts_length(
    target: str, config: Config
) -> None:
    """A term in n² that were half of it at n would make the ratio three; keys kept are n/10."""
    one, two, four = (peak(target, times, config) for times in (44, 88, 176))  # 8,100 tokens
    assert four < 2.6 * two < 2.6 * 2.6 * one
