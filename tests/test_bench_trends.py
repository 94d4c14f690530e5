"""Statistics over kept runs: in the order of commits, machines apart, trends beyond chance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benches import trend_analysis
from pcompiler.bench import archive, history
from pcompiler.bench.calibration import Calibration
from pcompiler.bench.harness import Figure, commit
from pcompiler.bench.history import ordered, series
from pcompiler.bench.runs import Part, Run
from pcompiler.bench.trends import slope, trend
from pcompiler.errors import InputError

ONE = Figure("a", "time", 1.0, "s", "lower")


def run_of(value: float, day: int, hardware: str = "a machine; cpu, float32; 1 threads") -> Run:
    c = Calibration((1.0,), (1.0,))
    started = f"2026-01-{day:02d}T00:00:00+00:00"
    figures = (replace(ONE, value=value),)
    return Run(figures, (Part("a", 1.0, c, c),), hardware, "cpu", None, started, 3.0, False, 1)


def points(values: list[float]) -> tuple[history.Point, ...]:
    kept = ordered((f"run {day}", run_of(value, day)) for day, value in enumerate(values, 1))
    return series(kept)["a: time"]


def test_runs_are_in_the_order_of_their_commits_and_not_of_their_names() -> None:
    kept = ordered([("a", run_of(3.0, 3)), ("b", run_of(1.0, 1)), ("c", run_of(2.0, 2))])
    assert [one.name for one in kept] == ["b", "c", "a"]


def test_a_commit_that_git_knows_dates_its_run() -> None:
    head = commit()
    if head is None:
        pytest.skip("no checkout")
    late = replace(run_of(1.0, 1), started="2100-01-01T00:00:00+00:00")
    (unknown,) = ordered([("x", replace(late, commit="0123456"))])
    (known,) = ordered([("x", replace(late, commit=head))])
    assert known.when < unknown.when


def test_runs_of_different_machines_are_no_series() -> None:
    kept = ordered(
        [("a", run_of(1.0, 1)), ("b", run_of(1.0, 2, "another; cpu, float32; 1 threads"))]
    )
    with pytest.raises(InputError, match="no series"):
        series(kept)


def test_the_reason_for_a_device_does_not_make_another_machine() -> None:
    why = "a machine; cpu, float32 (as asked; dtype as asked); 1 threads"
    assert history.setup(run_of(1.0, 1)) == history.setup(run_of(1.0, 2, why))
    assert history.setup(run_of(1.0, 1)) != history.setup(run_of(1.0, 1, why.replace("32", "16")))
    assert history.machine(run_of(1.0, 1, "Intel(R) X (16 cores)")) == "Intel(R) X (16 cores)"


def test_statistics_of_a_figure_are_those_of_its_values() -> None:
    found = trend("a: time", points([4.0, 1.0, 2.0, 3.0]))
    assert (found.n, found.median, found.iqr, found.first, found.last) == (4, 2.5, 1.5, 4.0, 3.0)
    assert found.variation == pytest.approx(0.5164, rel=1e-3)
    assert found.slope is None
    assert "too few" in found.verdict
    assert trend("a: time", points([4.0])).variation is None


def test_a_steady_fall_of_a_time_is_better_and_noise_is_no_trend() -> None:
    falling = trend("a: time", points([9.0, 8.1, 7.0, 6.2, 5.0, 4.1]))
    assert falling.slope == pytest.approx(-1.0, abs=0.1)
    assert falling.verdict == "better"
    assert trend("a: time", points([1.0, 2.0, 3.0, 4.0, 5.0])).verdict == "worse"
    assert trend("a: time", points([5.0, 5.2, 4.9, 5.1, 5.0, 5.1])).verdict == "no trend"


def test_one_outlier_does_not_make_a_trend() -> None:
    middle, low, high = slope([1.0, 1.0, 1.0, 1.0, 1.0, 100.0])
    assert middle == 0
    assert low <= 0 <= high


def test_the_script_parts_machines_and_reports_what_it_cannot_read(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "analysis"
    archive.write(run_of(2.0, 1), runs / "one.json")
    archive.write(run_of(1.0, 2), runs / "two.json")
    archive.write(run_of(9.0, 2, "another"), runs / "three.json")
    (runs / "broken.json").write_text("{")
    assert trend_analysis.main(["--runs", str(runs), "--out", str(out)]) == 0
    data = json.loads((out / "trends.json").read_text())
    assert [one["runs"] for one in data["setups"]] == [["one", "two"], ["three"]]
    (figure,) = data["setups"][0]["figures"]
    assert (figure["n"], figure["first"], figure["last"], figure["median"]) == (2, 2.0, 1.0, 1.5)
    assert data["refused"][0][0] == "broken.json"
    text = (out / "trends.md").read_text()
    assert "not read: broken.json" in text
    assert text.count("| a: time | s |") == 2
    assert trend_analysis.main(["--runs", str(tmp_path / "none"), "--out", str(out)]) == 2
