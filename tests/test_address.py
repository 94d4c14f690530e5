"""Addresses: what compiles alike is found again, what does not is kept apart."""

from __future__ import annotations

from dataclasses import replace

from pcompiler import targets
from pcompiler.config import Config, TargetConfig
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Work

PROMPT = "You are the desk.\n\nBe brief.\n"


def test_what_compiles_alike_has_one_address(model: LanguageModel, config: Config) -> None:
    """A default that is written out, and probes that nothing is fitted on, change nothing."""

    def address(target: str, fitting: int | None = None, **settings: float) -> str:
        probes = config.probes if fitting is None else replace(config.probes, fitting=fitting)
        own = replace(config, probes=probes, targets=TargetConfig(**settings))  # type: ignore[arg-type]
        return Work(PROMPT, None, model, own).address(targets.get(target))

    assert address("kv") == address("kv", factor=1.0) == address("kv", fitting=3)
    assert address("kv", factor=4.0) not in (address("kv"), address("kv", fitting=3, factor=4.0))
    assert address("hybrid") == address("hybrid", factor=10.0)
    assert address("hybrid") not in (address("hybrid", factor=9.0), address("hybrid", fitting=3))
