"""The benchmark module: its JSON is stable, its statistics are right, its errors are clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcompiler.bench import memory
from pcompiler.bench.__main__ import main
from pcompiler.bench.harness import Figure, Repeat, Samples, Setting, spread
from pcompiler.bench.report import alerts, as_json, as_table
from pcompiler.bench.runs import Run, measure
from pcompiler.device import pick


@pytest.fixture
def run_of() -> Callable[..., Run]:
    """A run that measured these figures."""

    def made(*figures: Figure) -> Run:
        suites = dict.fromkeys(f.suite for f in figures)
        setting = Setting(pick("cpu"), 1, quick=True)
        return measure(
            {s: lambda _, s=s: [f for f in figures if f.suite == s] for s in suites}, setting
        )

    return made


def test_the_table_says_what_was_reached_and_what_was_missed() -> None:
    figures = [
        Figure("s", "faster", 0.5, "s", "lower", reference=1.0),
        Figure("s", "slower", 2.0, "s", "lower", reference=1.0, note="bounded by physics"),
        Figure("s", "higher", 3.0, "x", "higher", reference=2.0),
        Figure("s", "further", 3.0, "x", "higher", reference=2.0, goal=4.0),
        Figure("s", "alone", 3.0, "x", "higher"),
    ]
    lines = as_table(figures).splitlines()
    reached = {line.split("  ")[0].removeprefix("s: "): line.split()[-1] for line in lines[2:7]}
    assert (reached["faster"], reached["slower"], reached["higher"]) == ("yes", "no", "yes")
    assert "yes; goal no" in lines[5]
    assert reached["alone"] not in ("yes", "no")
    assert "slower: bounded by physics" in lines[-1]


def test_the_spread_is_the_interquartile_range() -> None:
    assert spread([5.0]) == 0.0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0


def taken(repeat: Repeat, value: Callable[[int], float]) -> list[float]:
    """What the rounds of something measure that takes ``value(number)`` each time."""
    values: list[float] = []
    for number in repeat.until_steady(values):
        values += [value(number)]
    return values


def test_rounds_that_agree_are_enough() -> None:
    assert len(taken(Repeat(3, budget_s=60), lambda number: 1.0 + 0.001 * (number % 2))) == 3


def test_rounds_that_disagree_are_followed_by_more_until_the_median_is_known() -> None:
    values = taken(Repeat(3, budget_s=60), lambda number: (0.9, 1.1, 1.0)[number % 3])
    assert 3 < len(values) < 100
    assert spread(values) > 0.05


def test_rounds_end_when_their_time_is_spent() -> None:
    assert len(taken(Repeat(3, budget_s=0.0), lambda number: 1.0 + number)) == 3


def test_each_watched_thing_has_to_be_steady() -> None:
    steady: list[float] = []
    wild: list[float] = []
    for number in Repeat(2, budget_s=60).until_steady(steady, wild):
        steady.append(1.0)
        wild.append(1.0 + number % 2)
    assert len(wild) == 100


def test_the_peak_is_of_what_was_in_use_since_the_reset() -> None:
    device, size = pick("cpu"), 200 * 2**20
    memory.forget(device)
    before = memory.peak(device).host_bytes
    torch.ones(size, dtype=torch.uint8)  # touched, and let go of at once
    during = memory.peak(device).host_bytes
    assert during - before > 0.9 * size
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system cannot forget a peak")
    memory.forget(device)
    assert memory.peak(device).host_bytes < during - 0.5 * size
    assert memory.peak(device).device_bytes is None


def test_figures_beyond_a_limit_of_the_alerts_are_named(run_of: Callable[..., Run]) -> None:
    slow = Figure("storage_performance", "put, p99", 0.02, "s", "lower")
    quick = replace(slow, name="put, p50", value=0.001)
    done = run_of(slow, quick)
    assert alerts(done).splitlines()[1:] == [
        "alert: SlowStorage: storage_performance: put, p99: 0.02 s > 0.01 s."
    ]
    assert [a["figure"] for a in as_json(done)["alerts"]] == ["put, p99"]


def test_samples_measure_wall_and_cpu_time() -> None:
    samples = Samples()
    for _ in range(3):
        samples.time(pick("cpu"), lambda: sum(range(200_000)))
    assert len(samples.wall) == 3
    assert 0 < samples.cpu_median <= samples.median * 1.5 + 0.01


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "mps"], "this machine has: "),
        (["--device", "cpu", "--rounds", "0"], "rounds 0"),
        (["--device", "cpu", "--json", "/no/such/folder/x.json"], "does not exist"),
    ],
)
def test_bad_arguments_exit_2_with_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "mps" in arguments and str(pick("auto").handle) == "mps":
        pytest.skip("this machine has it")
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.model
def test_the_compilation_suite_runs_and_writes_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert main(["--device", "cpu", "--suite", "compilation", "--quick", "--json", str(path)]) == 0
    figures = {f["name"]: f for f in json.loads(path.read_text())["figures"]}
    assert figures["agreement with the full prompt"]["value"] == 100.0
    assert figures["KL"]["value"] < 1e-3 < figures["KL"]["baseline"]
    first = figures["time to first token, load included"]
    assert 0 < first["value"] < first["baseline"]
    assert figures["repeated compile, found in the store"]["value"] < 0.05
