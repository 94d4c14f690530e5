"""Saved runs come back as they were; what is not one is refused with a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benches import setup_ci_benchmarks
from pcompiler.bench import archive, runs
from pcompiler.bench import run as measure
from pcompiler.bench.__main__ import main
from pcompiler.bench.harness import Figure, Samples, Setting
from pcompiler.bench.report import as_json
from pcompiler.bench.runs import SCHEMA, Run
from pcompiler.device import pick
from pcompiler.errors import ConfigError, InputError, MismatchError, NotFoundError


def loop(setting: Setting) -> list[Figure]:
    taken = Samples()
    for _ in range(setting.rounds):
        taken.time(setting.device, lambda: sum(range(20_000)))
    return [
        Figure("loop", "sum", taken.median, "s", "lower", spread=taken.spread, note="a note",
               samples=tuple(taken.wall), tolerance=0.5),
        Figure("loop", "bytes", 7, "bytes", "lower", reference=8.0, baseline=9.0),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Run:
    return runs.measure({"loop": loop}, Setting(pick("cpu"), 3, quick=True))


def test_a_run_comes_back_as_it_was(run: Run, tmp_path: Path) -> None:
    path = archive.place("one", folder=tmp_path / "runs")
    archive.write(run, path)
    assert archive.read(archive.find("one", tmp_path / "runs")) == run
    assert [p.name for p in path.parent.iterdir()] == ["one.json"]


def test_the_json_says_what_was_measured_where(run: Run) -> None:
    data = json.loads(json.dumps(as_json(run)))
    assert data["schema"] == SCHEMA
    assert (data["device"], data["quick"]) == ("cpu", True)
    watched = {"before", "after", "drift", "drifted", "peak"}
    assert set(data["parts"][0]) == {"suite", "seconds"} | watched
    assert data["parts"][0]["peak"]["host_bytes"] > 10 * 2**20
    assert len(data["figures"][0]["samples"]) == 3


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a\\b", "/abs"])
def test_a_name_with_path_parts_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a folder"):
        archive.place(name, folder=tmp_path)


def test_a_name_that_is_taken_is_refused_unless_forced(run: Run, tmp_path: Path) -> None:
    archive.write(run, archive.place("one", folder=tmp_path))
    with pytest.raises(InputError, match="--force"):
        archive.place("one", folder=tmp_path)
    assert archive.place("one", force=True, folder=tmp_path).is_file()
    with pytest.raises(NotFoundError, match="saved are: one"):
        archive.find("two", tmp_path)


def test_a_run_from_before_memory_was_watched_is_still_read(run: Run, tmp_path: Path) -> None:
    data = json.loads(json.dumps(as_json(run))) | {"schema": 2}
    for part in data["parts"]:
        del part["peak"]
    for figure in data["figures"]:
        del figure["goal"], figure["by"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(data))
    parts = tuple(replace(part, peak=None) for part in run.parts)
    assert archive.read(path) == replace(run, parts=parts)


@pytest.mark.parametrize(("schema", "words"), [(SCHEMA + 1, "newer"), (1, "older")])
def test_another_schema_is_refused(run: Run, schema: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(as_json(run) | {"schema": schema}))
    with pytest.raises(MismatchError, match=words):
        archive.read(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", '"7"', "null", "true"])
def test_what_is_not_a_finite_number_is_refused(run: Run, number: str, tmp_path: Path) -> None:
    text = json.dumps(as_json(run)).replace('"value": 7', f'"value": {number}')
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: .*(finite|not a number)"):
        archive.read(tmp_path / "run.json")


def test_a_suite_that_measures_nan_ends_the_run() -> None:
    def bad(_setting: Setting) -> list[Figure]:
        return [Figure("bad", "n", float("nan"), "s", "lower")]

    with pytest.raises(InputError, match="bad: n: nan is not a finite number"):
        runs.measure({"bad": bad}, Setting(pick("cpu"), 1, quick=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("parts"),
        lambda d: d.update(more=1),
        lambda d: d["figures"][0].pop("samples"),
        lambda d: d["figures"][0].update(better="sideways"),
        lambda d: d["figures"][0].update(suite="another"),
        lambda d: d["parts"][0]["before"].update(wall_s=[]),
        lambda d: d.update(figures=3),
    ],
)
def test_a_file_that_is_no_whole_run_is_refused(change: Any, run: Run, tmp_path: Path) -> None:
    data = json.loads(json.dumps(as_json(run)))
    change(data)
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"run\.json"):
        archive.read(tmp_path / "run.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "\x00"])
def test_a_file_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        archive.read(tmp_path / "run.json")


def test_bad_suites_and_counts_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of: compilation"):
        runs.run("no_such_suite", device="cpu")
    with pytest.raises(InputError, match="threads 0"):
        runs.run("storage_performance", device="cpu", threads=0)
    with pytest.raises(InputError, match="not a folder"):
        runs.run("storage_performance", device="cpu", data=tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such_suite"], "choose one of"),
        (["--save", "a/b"], "without a folder"),
        (["--compare", "no-such-run"], "no run 'no-such-run'"),
        (["--markdown", "x.md"], "add --compare"),
    ],
)
def test_bad_arguments_exit_2_with_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--device", "cpu", "--quick", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, pcompiler.bench; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_suite_is_measured_by_name() -> None:
    done = measure("storage_performance", device="cpu", quick=True, threads=1)
    assert (done.parts[0].suite, done.threads, done.quick) == ("storage_performance", 1, True)
    assert next(f for f in done.figures if f.name == "put, p50").samples


@pytest.mark.slow
def test_the_command_exits_1_when_a_run_is_worse_than_a_saved_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = measure("storage_performance", device="cpu", quick=True, threads=1)
    better = (
        replace(f, value=f.value * 1.5) if f.name.startswith("saved") else f for f in done.figures
    )
    saved, table = tmp_path / "better.json", tmp_path / "table.md"
    archive.write(replace(done, figures=tuple(better)), saved)
    arguments = ["storage_performance", "--device", "cpu", "--quick", "--threads", "1"]
    assert main([*arguments, "--compare", str(saved), "--markdown", str(table)]) == 1
    assert "regression: storage_performance: saved on disk" in capsys.readouterr().out
    assert "| worse |" in table.read_text()


def test_the_ci_job_is_a_workflow_that_runs_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path), "--suite", "storage_performance", "--baseline", "runner-1"]
    assert setup_ci_benchmarks.main(out) == 0
    script, workflow = tmp_path / ".ci/benchmarks", tmp_path / ".github/workflows/benchmarks.yml"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111
    assert "storage_performance" in script.read_text()
    assert "%" not in workflow.read_text()
    assert setup_ci_benchmarks.main(out) == 2
    assert "--force" in capsys.readouterr().err
    assert setup_ci_benchmarks.main([*out, "--force"]) == 0
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load(workflow.read_text())["jobs"]["benchmarks"]
    step = next(step for step in job["steps"] if step.get("run") == ".ci/benchmarks")
    assert step["env"]["BASELINE"] == "runner-1"


@pytest.mark.parametrize("name", ["a b", "$(id)", "", "a'b", "../x"])
def test_a_baseline_that_a_shell_would_take_for_more_is_refused(name: str, tmp_path: Path) -> None:
    assert setup_ci_benchmarks.main(["--out", str(tmp_path), "--baseline", name]) == 2
    assert not list(tmp_path.iterdir())
