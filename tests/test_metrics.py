"""Each metric of the table moves by the right amount when what it measures happens."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drives import DRIVES
from reading import Reading

from pcompiler import embed, measures, meter, targets
from pcompiler.alerts import ALERTS
from pcompiler.dynamics.solvers import SOLVERS
from pcompiler.measures import METRICS, TABLE, MeasureError
from pcompiler.serve.metrics import SECTIONS, Exporter
from pcompiler.store.db import Store
from pcompiler.store.records import FAMILIES

ROOT = Path(__file__).parent.parent
# Metrics that are seen to move in another file of tests: name → file.
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("http_requests", "http_seconds", "http_in_flight"), "test_serve_security.py"),
    **dict.fromkeys(
        (
            *("generations", "generation_tokens", "generation_ttft_seconds", "queue_length"),
            *("generation_gap_seconds", "generation_wait_seconds", "generation_batch_size"),
        ),
        "test_scheduler.py",
    ),
    "compile_jobs": "test_jobs.py",
    **dict.fromkeys(
        ("remote_read_seconds", "remote_upload_seconds", "remote_bytes", "remote_waiting"),
        "test_shared_metrics.py",
    ),
}
# Nothing reports these yet: the parts of the server that will are being built.
PENDING: set[str] = set()


@pytest.fixture
def reading() -> Iterator[Reading]:
    exporter = Exporter()
    meter.attach(exporter)
    yield Reading(exporter)
    meter.attach(None)


SEEN: set[str] = set()


@pytest.mark.parametrize("drive", DRIVES, ids=lambda drive: drive.__name__)
def test_metrics_move_by_the_right_amount_when_what_they_measure_happens(
    drive: Callable[[Reading, Path], None], reading: Reading, tmp_path: Path
) -> None:
    drive(reading, tmp_path)
    SEEN.update(reading.seen)


def test_every_metric_was_seen_to_move(request: pytest.FixtureRequest) -> None:
    ran = {item.name for item in request.session.items}
    if not all(any(f"[{drive.__name__}]" in name for name in ran) for drive in DRIVES):
        pytest.skip("only some of the tests above were asked for")
    assert set(METRICS) - SEEN == PENDING | ELSEWHERE.keys()


def test_what_is_said_of_metrics_that_are_not_tested_here_is_true() -> None:
    reported = {name for _, name, _ in reports()}
    assert not PENDING & reported, "reported now: move them to ELSEWHERE, or to a drive here"
    for name, file in ELSEWHERE.items():
        assert METRICS[name].exported in (ROOT / "tests" / file).read_text(), name


def reports() -> list[tuple[str, str, ast.Call]]:
    """Calls of the meter in the package: kind, metric and call."""
    kinds = {"count": "counter", "observe": "histogram", "timed": "histogram", "gauge": "gauge"}
    found = []
    for path in (ROOT / "pcompiler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                is_meter = isinstance(node.func.value, ast.Name) and node.func.value.id == "meter"
                names = [a.value for a in node.args if isinstance(a, ast.Constant)]
                if is_meter and node.func.attr == "bind":
                    found.append((str(names[0]), str(names[1]), node))
                elif is_meter and node.func.attr in kinds and names:
                    found.append((kinds[node.func.attr], str(names[0]), node))
    return found


def test_what_is_reported_anywhere_is_in_the_table_with_these_labels() -> None:
    for kind, name, call in reports():
        metric = measures.find(kind, name)  # type: ignore[arg-type]
        given = {word.arg for word in call.keywords if word.arg}
        assert given <= metric.labels.keys(), name
        if all(word.arg for word in call.keywords):  # and none are filled in from a dictionary
            assert given == metric.labels.keys(), name


def test_an_unknown_name_kind_or_label_is_refused(reading: Reading) -> None:
    exact = pytest.raises(MeasureError, match="no metric 'exact'")
    with exact:
        meter.count("exact")
    with pytest.raises(MeasureError, match="is a counter"):
        meter.observe("exact_updates", 1.0)
    with pytest.raises(MeasureError, match="has labels"):
        meter.count("exact_updates", 1, target="kv")
    with pytest.raises(MeasureError, match="it may be kv, weights"):
        meter.count("prompt_tokens", 1, target="anything a client sent", side="in")
    assert "anything" not in reading.exporter.render()[0].decode()


def test_the_values_of_labels_are_those_that_there_are() -> None:
    assert set(measures.TARGETS) == set(targets.TARGETS)
    assert set(measures.FAMILIES) == set(FAMILIES)
    assert set(METRICS["solves"].labels["solver"]) == set(SOLVERS)
    assert set(METRICS["embedding_texts"].labels["provider"]) == set(embed.PROVIDERS)
    assert {metric.section for metric in TABLE} == set(SECTIONS)
    assert sum(metric.combinations for metric in TABLE) < 1000


def test_limits_of_alerts_are_bucket_bounds() -> None:
    for alert in ALERTS:
        for name in re.findall(r"pcompiler_(\w+)_bucket", alert.value):
            assert alert.limit in METRICS[name].buckets, alert.name


def test_what_is_counted_before_anyone_listens_and_after_is_nobodys(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.records.put("names", b"a", b"1")
        meter.attach(exporter := Exporter())
        reading = Reading(exporter)
        with reading.watching():
            store.records.get("names", b"a")
        meter.attach(None)
        store.records.get("names", b"a")
    assert reading.value("store_operations", operation="put") == 0
    assert reading.value("store_operations", operation="get") == 1


class Source:
    """Reports to a list, or fails."""

    def __init__(self, told: list[int] | None) -> None:
        self.told = told

    def listen(self) -> None: ...

    def report(self) -> None:
        if self.told is None:
            raise OSError("its disk is gone")
        self.told.append(1)


def test_a_source_that_fails_keeps_no_other_from_reporting(
    monkeypatch: pytest.MonkeyPatch, reading: Reading
) -> None:
    told: list[int] = []
    every = [Source(None if number % 2 else told) for number in range(20)]
    monkeypatch.setattr(meter, "_sources", set(every))
    with pytest.raises(OSError, match="its disk is gone"):
        reading.exporter.render()
    assert len(told) == 10


def test_a_closing_store_says_what_it_has_not_said_yet(reading: Reading, tmp_path: Path) -> None:
    with reading.watching(), Store(tmp_path / "s") as store:
        store.records.get("names", b"a")
    assert reading.change("store_lookups", family="names", result="miss") >= 1
