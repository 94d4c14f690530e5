"""Profiles of a tiny model: traces that add up, and say which part of the compiler ran what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny
from torch.profiler import ProfilerActivity, profile, record_function

from pcompiler import ranges
from pcompiler.bench.__main__ import main
from pcompiler.bench.profiles import __main__ as shower
from pcompiler.bench.profiles import sums, traces
from pcompiler.bench.profiles.record import Profile, record
from pcompiler.bench.profiles.spans import PREFIX, spans
from pcompiler.bench.profiles.workload import Workload, support_desk
from pcompiler.config import Config, ProbeConfig
from pcompiler.errors import InputError

PROMPT = "# Desk\n\nWe open at 8:30. Delivery costs 39 EUR. Returns take 14 days.\n"


def workload() -> Workload:
    """A prompt of a few sentences, few and short probes."""
    probes = ProbeConfig(fitting=12, query_tokens=6, answer_tokens=2)
    return Workload(PROMPT, ("When?", "How much?"), Config(probes=probes), 2, 2, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A profile of a tiny model, as a user gets it."""
    return record(tiny(), workload(), tmp_path_factory.mktemp("profiles"), quick=True)


def test_every_stage_has_a_trace_that_the_plugin_finds(made: Profile) -> None:
    assert [stage.name for stage in made.stages] == [
        *("compile kv", "compile hybrid", "compile text", "attach and generate")
    ]
    for stage in made.stages:
        events = traces.read(made.folder / stage.trace)["traceEvents"]
        operators = [e for e in events if e.get("cat") == "cpu_op"]
        assert stage.trace.endswith(".pt.trace.json.gz")
        assert len(operators) == stage.operators > 100
    assert not list(made.folder.glob("*.part*"))


@pytest.mark.parametrize(
    "name",
    [
        *("parse", "prefill", "self-study", "fidelity: teacher", "fidelity: compare"),
        *("build kv", "build hybrid", "build text", "attach kv", "attach hybrid", "attach text"),
        *("pass normalize", "pass deduplicate: find", "pass protect", "pass rank", "pass prune"),
        *("teacher, layers 0", "student, layers 2", "layers 1", "solve patch", "match masses"),
        *("match values", "solver Cholesky", "solver nonnegative", "choose strength"),
        *("read queries", "decoding step", "score", "time to first token"),
        *("store put", "store get", "codec compress", "codec decompress", "codec to planes"),
        *("encode tensors", "decode tensors", "codec from planes"),
    ],
)
def test_each_part_of_the_compiler_has_a_range(made: Profile, name: str) -> None:
    (found,) = [row for row in made.ranges if row.name == name]
    assert found.calls > 0
    assert 0 < found.self_s <= found.own_s <= found.total_s


def test_own_times_of_the_ranges_add_up_to_the_wall_time(made: Profile) -> None:
    own = sum(row.own_s for row in made.ranges)
    assert own == pytest.approx(made.seconds, rel=0.05)
    operators = sum(row.self_s for row in made.operators)
    python = sum(row.self_s for row in made.ranges)
    assert operators + python == pytest.approx(own, rel=1e-3)


def test_decoding_steps_are_counted_and_run_the_layers(made: Profile) -> None:
    trace = traces.read(made.folder / made.stages[-1].trace)
    modules = [e for e in trace["traceEvents"] if e.get("cat") == "python_function"]
    steps = [e for e in modules if e["name"] == "decoding step"]
    assert 1 <= len(steps) <= 2  # three tokens, unless one of them ends the answer
    for step in steps:
        inside = [e for e in modules if e["args"]["Python parent id"] == step["args"]["Python id"]]
        assert {"layers 0", "layers 1", "layers 2"} <= {e["name"] for e in inside}


def test_modules_of_a_trace_are_the_tree_of_ranges(made: Profile) -> None:
    trace = traces.read(made.folder / made.stages[1].trace)
    modules = [e for e in trace["traceEvents"] if e.get("cat") == "python_function"]
    by_number = {e["args"]["Python id"]: e for e in modules}
    assert not any(e["name"].startswith(PREFIX) for e in trace["traceEvents"])

    def path(event: dict[str, Any]) -> list[str]:
        above = by_number.get(event["args"]["Python parent id"])
        return [*(path(above) if above else []), event["name"]]

    paths = {" > ".join(path(event)) for event in by_number.values()}
    assert all(found.startswith("compile hybrid") for found in paths)
    student = "compile hybrid > build hybrid > student, layers 0"
    assert f"{student} > match masses > solver nonnegative" in paths
    assert f"{student} > solve patch > solver Cholesky" in paths


def test_profiling_leaves_the_model_and_the_ranges_as_they_were(made: Profile) -> None:
    model = tiny()
    record(model, workload(), made.folder.parent / "again")
    for block in model.hf.model.layers:
        assert not block._forward_hooks
        assert not block._forward_pre_hooks
    assert ranges.named("x") is ranges.named("y"), "nothing is recorded any more"


def test_a_profile_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    too_long = replace(workload(), queries=("word " * 3000,))
    with pytest.raises(InputError, match="window"):
        record(tiny(), too_long, tmp_path)
    assert not list(tmp_path.iterdir())


def nested() -> Iterator[None]:
    """Two ranges, one in the other, around operators; one operator outside."""
    x = torch.randn(64, 64)
    with record_function(PREFIX + "outer"):
        for _ in range(3):
            with record_function(PREFIX + "inner"):
                x = x @ x
        x = x + 1
    _ = torch.softmax(x, 0)
    yield


def test_sums_are_those_of_torch(tmp_path: Path) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        next(nested())
    profiler.export_chrome_trace(str(tmp_path / "t.json"))
    found = spans(traces.read(tmp_path / "t.json")["traceEvents"])
    ours = {row.name: row for row in (*sums.by_operator(found), *sums.by_range(found))}
    theirs = {row.key.removeprefix(PREFIX): row for row in profiler.key_averages()}
    for name in ("outer", "inner", "aten::mm", "aten::add", "aten::softmax", "aten::_softmax"):
        assert ours[name].calls == theirs[name].count
        # Times in the trace and in the averages are rounded differently.
        assert ours[name].total_s * 1e6 == pytest.approx(theirs[name].cpu_time_total, abs=5)
        assert ours[name].self_s * 1e6 == pytest.approx(theirs[name].self_cpu_time_total, abs=5)
    assert ours["outer"].own_s < ours["outer"].total_s
    assert ours["inner"].own_s == pytest.approx(ours["inner"].total_s)


def test_kernels_count_for_the_operator_and_the_ranges_that_launched_them() -> None:
    """A trace as Kineto writes it for CUDA: kernels point at operators by their external id."""

    def event(cat: str, name: str, ts: float, dur: float, number: int, tid: int) -> dict[str, Any]:
        args = {"External id": number}
        return {
            "ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "pid": 1, "tid": tid,
            "args": args,
        }  # fmt: skip

    found = spans(
        [
            event("user_annotation", PREFIX + "outer", 0, 100, 1, 7),
            event("user_annotation", PREFIX + "inner", 10, 50, 2, 7),
            event("cpu_op", "aten::mm", 20, 10, 3, 7),
            event("cpu_op", "aten::add", 70, 10, 4, 7),
            event("kernel", "gemm", 500, 2000, 3, 20),
            event("kernel", "add", 3000, 40, 4, 20),
        ]
    )
    by_range = {row.name: row for row in sums.by_range(found)}
    by_operator = {row.name: row for row in sums.by_operator(found)}
    assert by_range["outer"].device_s == pytest.approx(2040e-6)
    assert by_range["inner"].device_s == pytest.approx(2000e-6)
    assert by_operator["aten::add"].device_s == pytest.approx(40e-6)
    assert by_range["outer"].own_s == pytest.approx(50e-6)
    assert by_range["outer"].self_s == pytest.approx(40e-6)
    assert "device" in sums.ranges_table(list(by_range.values()), 1.0)


def test_a_range_within_itself_is_counted_once_in_the_total() -> None:
    events = [
        {"ph": "X", "cat": "user_annotation", "name": PREFIX + "a", "ts": ts, "dur": dur,
         "pid": 1, "tid": 1, "args": {}}
        for ts, dur in ((0, 100), (10, 50))
    ]  # fmt: skip
    (row,) = sums.by_range(spans(events))
    assert (row.calls, row.total_s, row.own_s) == (2, pytest.approx(100e-6), pytest.approx(100e-6))


def test_the_summary_and_the_tables_say_the_same(made: Profile) -> None:
    summary = json.loads((made.folder / "summary.json").read_text())
    assert summary == json.loads(json.dumps(made.as_json()))
    table = made.as_table()
    for row in (*made.ranges, *made.operators[: sums.TOP_OPERATORS]):
        assert row.name in table
    assert summary["folder"] == made.folder.name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "--device", "cuda:99"], "this machine has: "),
        (["--profile", "--threads", "0"], "threads 0"),
        (["--profile", "--save", "x"], "name one beside --profile"),
        (["--profile", "--compare", "x"], "name one beside --profile"),
    ],
)
def test_a_profile_that_cannot_be_made_is_refused_before_work_starts(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_showing_a_folder_without_profiles_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shower.main(["--logdir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "--profile" in err or "pip install 'pcompiler[profile]'" in err


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_the_bench_profiles_the_embedded_model(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(support_desk(quick=True).source) < len(support_desk().source)
    from pcompiler.bench.profiles import record as module

    monkeypatch.setattr(module, "FOLDER", tmp_path / "profiles")
    assert main(["--profile", "--quick", "--device", "cpu", "--json", "-"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)["profile"]
    assert found["device"] == "cpu"
    assert found["quick"]
    names = {row["name"] for row in found["ranges"]}
    assert {"decoding step", "layers 0-9", "student, layers 20-29"} <= names
    assert len(list((tmp_path / "profiles" / found["folder"]).glob("*.pt.trace.json.gz"))) == 4
