"""Runs are compared by what was measured: real slow-downs are caught, noise is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benches import regression_analysis
from pcompiler.bench import archive, runs
from pcompiler.bench.bootstrap import clock, power
from pcompiler.bench.calibration import Calibration, calibrate, drift
from pcompiler.bench.compare import as_json, as_markdown, as_table, compare, confirm, summary
from pcompiler.bench.harness import Figure, Samples, Setting
from pcompiler.bench.report import noise
from pcompiler.bench.runs import Part, Run
from pcompiler.device import pick
from pcompiler.errors import InputError

TRIES, STEADY = 8, 0.04  # of runs, and how little the machine's speed may change in one
STEPS = 300_000  # 10 ms: a suite as long as the calibration, or a burst falls into one of them
HOST = Setting(pick("cpu"), rounds=15, quick=True)


def suite(steps: int) -> runs.Suite:
    """A suite that measures real work, as much of it as is said."""

    def work() -> int:
        total = 0
        for i in range(steps):
            total += i & 7
        return total

    def measure(setting: Setting) -> list[Figure]:
        taken = Samples()
        for _ in range(setting.rounds):
            taken.time(setting.device, work)
        cpu = Samples(taken.cpu)
        return [
            Figure("loop", "CPU time", cpu.median, "cpu s", "lower", samples=tuple(taken.cpu)),
            Figure("loop", "wall time", taken.median, "s", "lower", samples=tuple(taken.wall)),
            Figure("loop", "rate", 1 / cpu.median, "steps/cpu s", "higher",
                   samples=tuple(1 / s for s in taken.cpu)),
            Figure("loop", "steps", steps, "steps", "lower"),
        ]  # fmt: skip

    return measure


def measured(steps: int = STEPS) -> Run:
    return runs.measure({"loop": suite(steps)}, HOST)


def undrifted(steps: int = STEPS) -> Run:
    """Of a machine that kept its speed meanwhile, or the steadiest of several tries.

    A run says by how much it did not. What is compared differs by 30 %, and a change is told from
    10 % on: two runs that drifted by nearly their limit, 15 %, could hide it, or look like one.
    """
    tried: list[Run] = []
    while len(tried) < TRIES and not (tried and tried[-1].parts[0].drift < STEADY):
        tried.append(measured(steps))
    return min(tried, key=lambda run: run.parts[0].drift)


def edited(run: Run, *figures: Figure) -> Run:
    return replace(run, figures=figures)


@pytest.fixture(scope="module")
def recorded() -> Run:
    return measured()


def verdicts(before: Run, after: Run) -> dict[str, str]:
    return {row.figure: row.verdict for row in compare([before, after]).rows}


def test_a_function_that_does_30_percent_more_work_is_caught() -> None:
    """Once of four times at least: what a busy machine hides is not told to be worse."""
    more, caught = round(STEPS * 1.3), {"loop: CPU time", "loop: rate", "loop: steps"}
    for _ in range(4):
        before = undrifted()
        first = compare([before, undrifted(more)])
        found = confirm([before], first, lambda _suites: undrifted(more))
        worse = {row.figure for row in found.regressions}
        assert "loop: steps" in worse  # which no clock tells
        if caught <= worse:
            break
    assert caught <= worse
    assert "regression: loop: CPU time" in summary(found)


def test_two_runs_of_the_same_code_are_not_flagged_ten_times_of_ten() -> None:
    flagged = []
    for _ in range(10):
        before = undrifted()
        found = confirm([before], compare([before, undrifted()]), lambda _suites: undrifted())
        flagged += [row.figure for row in found.regressions]
    assert flagged == []


def test_what_is_worse_only_once_is_measured_anew_and_not_flagged(recorded: Run) -> None:
    burst = replace(recorded, figures=tuple(slower(f, 2.0) for f in recorded.figures))
    first = compare([recorded, burst])
    assert first.regressions
    found = confirm([recorded], first, lambda _suites: recorded)
    assert not found.regressions
    assert any("measured once more" in note for note in found.notes)


def slower(figure: Figure, factor: float) -> Figure:
    scale = factor if figure.better == "lower" else 1 / factor
    samples = tuple(s * scale for s in figure.samples)
    return replace(figure, value=figure.value * scale, samples=samples)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.3, "worse"), (1.0, "same"), (1 / 1.3, "better")]
)
def test_a_recorded_run_with_all_rounds_scaled(factor: float, verdict: str) -> None:
    rounds = tuple(0.01 * (1 + 0.01 * (i % 5)) for i in range(10))
    figure = Figure("loop", "time", 0.0102, "s", "lower", samples=rounds)
    run = steady(figure)
    assert verdicts(run, edited(run, slower(figure, factor))) == {"loop: time": verdict}


def steady(*figures: Figure, speed: float = 1.0) -> Run:
    """A run on a machine whose fixed work takes so many seconds, before and after."""
    c = Calibration((speed,) * 5, (speed,) * 5)
    return Run(
        figures, (Part("loop", 1.0, c, c),), "m", "cpu", None, "2026-01-01", 1.0, True, 1
    )  # fmt: skip


def test_times_are_those_of_a_machine_that_did_not_change() -> None:
    time = Figure("loop", "time", 2.0, "s", "lower", samples=(2.0, 2.01, 1.99, 2.0))
    rate = Figure("loop", "rate", 50.0, "MB/s", "higher", samples=(50.0, 50.5, 49.5))
    size = Figure("loop", "size", 1e6, "bytes", "lower")
    before = steady(time, rate, size)
    after = steady(slower(time, 2.0), slower(rate, 2.0), size, speed=2.0)
    found = compare([before, after])
    assert [row.verdict for row in found.rows] == ["same"] * 3
    assert [row.ratio for row in found.rows] == pytest.approx([1.0] * 3)
    assert "2.00 ×" in as_table(found)
    assert verdicts(before, steady(*after.figures)) == {
        "loop: time": "worse",
        "loop: rate": "worse",
        "loop: size": "same",
    }


def test_units_tell_which_clock_they_go_with() -> None:
    assert [clock(u) for u in ("s", "MB/s", "MB/CPU-s", "cpu s", "%", "bytes", "nats/token")] == [
        "wall", "wall", "cpu", "cpu", None, None, None,
    ]  # fmt: skip
    assert [power(u) for u in ("s", "1/s", "MB/cpu s", "%")] == [1, -1, -1, 0]


def test_without_rounds_a_time_has_to_be_far_off_and_bytes_only_a_little() -> None:
    time, size = Figure("loop", "t", 1.0, "s", "lower"), Figure("loop", "b", 1.0, "bytes", "lower")
    before = steady(time, size)
    assert verdicts(before, steady(slower(time, 1.2), slower(size, 1.2))) == {
        "loop: t": "same",
        "loop: b": "worse",
    }
    assert verdicts(before, steady(slower(time, 1.6), size))["loop: t"] == "worse"


def test_a_time_that_slowed_as_its_baseline_did_is_the_machines() -> None:
    time = Figure("loop", "t", 1.0, "s", "lower", baseline=2.0, samples=(1.0, 1.0, 1.0))
    slow = slower(time, 1.5)
    assert verdicts(steady(time), steady(slow)) == {"loop: t": "worse"}
    assert verdicts(steady(time), steady(replace(slow, baseline=3.0))) == {"loop: t": "same"}


def test_a_machine_that_drifted_widens_the_interval_and_is_named() -> None:
    figure = Figure("loop", "time", 1.0, "s", "lower", samples=(1.0, 1.0, 1.0))
    slow = Calibration((1.4,) * 5, (1.0,) * 5)
    calm = steady(figure)
    part = replace(calm.parts[0], after=slow)
    drifted = replace(calm, figures=(slower(figure, 1.3),), parts=(part,))
    assert drift(part.before, part.after) == pytest.approx(0.4)
    assert "drifted by 40 %" in noise(drifted)
    assert noise(calm) == ""
    assert verdicts(calm, drifted) == {"loop: time": "same"}
    assert any("drifted by 40 %" in note for note in compare([calm, drifted]).notes)


def test_the_fixed_work_takes_a_fraction_of_a_second() -> None:
    found = calibrate()
    assert len(found.wall_s) == len(found.cpu_s) == 9
    assert 0.001 < found.median("cpu") < 0.5


def test_figures_on_one_side_only_are_reported() -> None:
    a, b = Figure("loop", "a", 1.0, "s", "lower"), Figure("loop", "b", 1.0, "s", "lower")
    found = compare([steady(a), steady(b)])
    assert {row.figure: row.verdict for row in found.rows} == {
        "loop: a": "missing",
        "loop: b": "new",
    }
    assert "1 missing, 1 new" in as_table(found)


def test_a_figure_that_goes_on_has_the_name_of_the_one_before_it() -> None:
    figures = [Figure("s", n, 1.0, "s", "lower") for n in ("a", "… KL", "b", "… KL", "b")]
    assert list(runs.labels(figures)) == ["s: a", "s: a … KL", "s: b", "s: b … KL", "s: b #2"]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0.0, 0.0, "same"), (0.0, 5.0, "worse"), (5.0, 0.0, "better"), (-2.0, -2.1, "same")],
)
def test_figures_that_have_no_ratio_are_judged_by_their_difference(
    before: float, after: float, verdict: str
) -> None:
    old, new = (steady(Figure("loop", "n", v, "bytes", "lower")) for v in (before, after))
    found = compare([old, new])
    assert found.rows[0].verdict == verdict
    json.dumps(as_json(found), allow_nan=False)


def test_a_difference_in_kl_that_nobody_would_see_is_none() -> None:
    old, new = (steady(Figure("loop", "KL", v, "nats/token", "lower")) for v in (1e-6, 5e-6))
    assert verdicts(old, new) == {"loop: KL": "same"}


def test_several_older_runs_show_how_much_runs_differ() -> None:
    times = [Figure("loop", "time", t, "s", "lower", samples=(t,) * 5) for t in (1.0, 1.5, 1.3)]
    first, second, last = (steady(t) for t in times)
    assert [row.verdict for row in compare([first, last]).rows] == ["worse"]
    assert [row.verdict for row in compare([first, second, last]).rows] == ["same"]


def test_runs_that_cannot_be_compared_are_refused(recorded: Run) -> None:
    with pytest.raises(InputError, match="two or more"):
        compare([recorded])
    with pytest.raises(InputError, match="quick"):
        compare([recorded, replace(recorded, quick=False)])
    other = replace(recorded, figures=(), parts=(replace(recorded.parts[0], suite="other"),))
    with pytest.raises(InputError, match="no suite in common"):
        compare([recorded, other])


def test_the_same_runs_give_the_same_comparison(recorded: Run) -> None:
    other = measured()
    assert compare([recorded, other]) == compare([recorded, other])


def test_the_markdown_has_what_changed_before_what_did_not() -> None:
    a, b = (Figure("loop", name, 1.0, "bytes", "lower") for name in ("a|b", "c"))
    text = as_markdown(compare([steady(a, b), steady(slower(a, 2.0), b)]))
    changed, _, unchanged = text.partition("<details>")
    assert r"| loop: a\|b | 1 B | 2 B | 2.000 ×" in changed
    assert "| loop: c |" in unchanged


def test_the_script_names_a_regression_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Figure("loop", "size", 100.0, "bytes", "lower")
    names = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    for name, run in zip(names, (steady(size), steady(slower(size, 1.3))), strict=True):
        archive.write(run, Path(name))
    assert regression_analysis.main([*names, "--json", "-"]) == 1
    out = capsys.readouterr().out
    assert "regression: loop: size" in out
    assert json.loads(out.splitlines()[-1])["regressions"] == ["loop: size"]
    assert regression_analysis.main(names[::-1]) == 0
    assert regression_analysis.main([names[0], "no-such-run"]) == 2
    assert "no run 'no-such-run'" in capsys.readouterr().err
