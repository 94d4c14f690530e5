"""The memory test: a slope is found under noise, and a leak of 1 KB a cycle is caught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benches import memory_stability_test
from pcompiler.bench import stability
from pcompiler.bench.held import heap_bytes, measures, rss_bytes
from pcompiler.bench.slope import slope
from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig
from pcompiler.device import pick
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel

STEPS = list(range(60))


def series(growth: float, seed: int) -> list[float]:
    """Noise in runs, as buffers make it, a sawtooth, and outliers."""
    rng = np.random.default_rng(seed)
    runs = np.convolve(rng.normal(0, 900, 64), np.ones(5) / 5, "valid")
    saw = 700 * (np.arange(60) % 7)
    outliers = np.where(rng.random(60) < 0.05, 50_000, 0)
    return list(1e8 + growth * np.arange(60) + runs + saw + outliers)


def test_growth_is_found_and_noise_is_not_taken_for_it() -> None:
    grown = [slope(STEPS, series(1_024, seed)) for seed in range(40)]
    flat = [slope(STEPS, series(0, seed)) for seed in range(40)]
    assert sum(one.exceeds(512) for one in grown) >= 38
    assert sum(one.exceeds(512) for one in flat) == 0
    assert sum(one.low <= 1_024 <= one.high for one in grown) >= 34
    assert np.median([one.value for one in grown]) == pytest.approx(1_024, rel=0.1)


def test_a_slope_needs_samples() -> None:
    with pytest.raises(InputError, match="7 samples"):
        slope(STEPS[:7], [1.0] * 7)
    assert slope(STEPS[:8], [3.0] * 8).exceeds(0) is False


def test_the_heap_is_counted_to_the_byte() -> None:
    before = heap_bytes()
    if before is None:
        pytest.skip("this C library does not tell")
    kept = [bytes(1_024) for _ in range(1_000)]
    assert (heap_bytes() or 0) - before == pytest.approx(1_024 * len(kept), rel=0.1)


def test_measures_are_of_the_process_and_ignore_processes_that_are_gone() -> None:
    found = measures(pick("cpu"))
    assert found["rss"] > 10**7
    assert found["python_blocks"] > 10_000
    assert "device" not in found
    assert rss_bytes([2**22 + 1]) == pytest.approx(found["rss"], rel=0.2)


@pytest.fixture
def cycled(model: LanguageModel, tmp_path: Path) -> Compiler:
    config = Config(
        probes=ProbeConfig(self_study=1, answer_tokens=2),
        store=replace(stability.SETTINGS, path=str(tmp_path / "store")),
    )
    return Compiler(model=model, config=config)


def test_cycles_leave_an_empty_store(cycled: Compiler) -> None:
    with cycled:
        grown = stability.cycles(cycled, 10, warm_up=0)
        assert {one.name for one in grown} >= {"rss", "python_blocks"}
        assert all(len(one.values) == 10 for one in grown)
        assert list(cycled.store.headers()) == []
        with pytest.raises(InputError, match="too few"):
            stability.cycles(cycled, 7)


@pytest.mark.slow
def test_a_planted_leak_of_1_kb_a_cycle_is_caught_and_a_clean_run_passes(cycled: Compiler) -> None:
    kept: list[bytes] = []
    with cycled:
        clean = stability.cycles(cycled, 24)
        leaky = stability.cycles(cycled, 24, warm_up=5, beside=lambda _: kept.append(bytes(1_024)))
    assert [one.name for one in clean if one.leaks] == []
    assert "heap" in [one.name for one in leaky if one.leaks]


@pytest.mark.parametrize("wrong", [("--leak", "-1"), ("--cycles", "3"), ("--json", "/not/there/x")])
def test_the_script_refuses_what_it_cannot_run(wrong: tuple[str, ...], model_folder: Path) -> None:
    assert (
        memory_stability_test.main(["--model", str(model_folder), "--device", "cpu", *wrong]) == 2
    )
