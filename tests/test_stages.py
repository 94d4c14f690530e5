"""Stages of a compile are timed where they happen, none twice, and their growth is fitted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benches import compilation_pipeline_bench
from pcompiler import clock
from pcompiler.bench import stages
from pcompiler.bench.stages import STAGES, Taken
from pcompiler.config import Config
from pcompiler.frontend import parse
from pcompiler.model import LanguageModel
from pcompiler.store.db import Store
from pcompiler.targets.base import Compilation

RUNS = [(target, 300) for target in stages.SETTINGS]


def test_every_target_tells_its_stages_and_they_add_up(
    model: LanguageModel, store: Store, config: Config
) -> None:
    taken = list(stages.measure(model, store, RUNS, config, rounds=1))
    assert list(store.headers()) == []
    for one in taken:
        assert one.tokens == pytest.approx(300, abs=40)
        assert sum(one.seconds.values()) == pytest.approx(one.total_s)
        assert all(seconds >= 0 for seconds in one.seconds.values())
        used = {stage for stage, seconds in one.seconds.items() if seconds > 0}
        always = {"parse", "tokenize", "prefill", "build", "codec", "store", "measure"}
        assert used >= always | {"first_token"}
        fitted = one.target in stages.FITTED
        assert ("walk" in used, "solving" in used, "probing" in used) == (fitted,) * 3
        assert ("passes" in used) == (one.target == "text")
        assert one.seconds["elsewhere"] < 0.5 * one.total_s


def test_a_stage_does_not_count_what_stages_inside_it_take(
    model: LanguageModel, config: Config
) -> None:
    compilation = Compilation(parse("Be brief."), model, config)
    with compilation.timed("outer"):
        time.sleep(0.05)
        with compilation.timed("inner"):
            time.sleep(0.1)
    assert compilation.spent["inner"] >= 0.1
    assert 0.05 <= compilation.spent["outer"] < 0.1


def test_stages_in_cpu_time_leave_out_what_is_waited_for(
    model: LanguageModel, config: Config
) -> None:
    compilation = Compilation(parse("Be brief."), model, config)
    with clock.timing_by(time.process_time):
        with compilation.timed("waits"):
            time.sleep(0.2)
        with compilation.timed("works"):
            until = time.process_time() + 0.1
            while time.process_time() < until:
                pass
    assert compilation.spent["waits"] < 0.1 <= compilation.spent["works"]
    with compilation.timed("waits"):
        time.sleep(0.2)
    assert compilation.spent["waits"] >= 0.2


def test_exponents_are_those_of_the_growth() -> None:
    def taken(tokens: int) -> Taken:
        square = dict.fromkeys(STAGES, 1e-9 * tokens**2) | {"parse": 1e-6 * tokens}
        return Taken("kv", tokens, square | {"walk": 0.0}, 1e-3 * tokens, 0, 0, 1)

    ones = [taken(tokens) for tokens in (100, 500, 1_000, 4_000)]
    assert stages.exponent(ones, "prefill") == pytest.approx(2)
    assert stages.exponent(ones, "parse") == pytest.approx(1)
    assert stages.exponent(ones, "total") == pytest.approx(1)
    assert stages.exponent(ones, "walk") is None
    assert stages.exponent(ones[:2], "parse") is None


def test_what_is_left_out_is_told() -> None:
    runs, left_out = stages.plan(list(stages.SETTINGS), quick=False)
    assert ("kv", 8_000) in runs
    assert ("hybrid", 8_000) in runs
    assert left_out == []
    runs, left_out = stages.plan(list(stages.SETTINGS), quick=True)
    assert {target for target, _ in runs} == {"kv", "text", "hybrid"}
    assert ("hybrid", 200) not in runs
    assert [what.split()[0] for what in left_out] == ["weights:", "hybrid"]
    assert ("weights", 100) in stages.plan(["weights"], quick=True)[0]


def test_the_script_runs_alone(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--cpu-time", "--device", "cpu", "--model", str(model_folder)]
    arguments += ["--json", "-"]
    assert compilation_pipeline_bench.main([*arguments, "--target", "kv", "--target", "text"]) == 0
    out = capsys.readouterr().out
    assert "grows as" in out
    found = json.loads(out.splitlines()[-1])
    assert [one["target"] for one in found["compiles"]] == ["kv"] * 3 + ["text"] * 3
    assert found["exponents"]["kv"]["total"] is not None
    for one in found["compiles"]:
        assert one["total_s"] == pytest.approx(one["cpu_s"], rel=0.1)
        assert sum(one["seconds"].values()) == pytest.approx(one["total_s"])
