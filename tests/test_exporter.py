"""Metrics of several processes behind one address, in the forms that Prometheus reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from pcompiler import memory, meter
from pcompiler.errors import NotFoundError
from pcompiler.measures import TABLE
from pcompiler.serve import metrics
from pcompiler.serve.metrics import SECTIONS, Exporter

ROOT = Path(__file__).parent.parent
# Does what its lines of standard input say, and answers each with a line.
WORKER = """
import sys
from pcompiler import memory, meter
from pcompiler.serve import metrics
exporter = metrics.start(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("render"):
        print(exporter.render(*line.split()[1:])[0].decode().replace("\\n", "|"), flush=True)
    else:
        eval(line)
        print("done", flush=True)
"""


class Process:
    """A worker with metrics in a folder that it shares with others."""

    def __init__(self, folder: Path, process: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), metrics.FOLDER: str(folder)}
        self.child = subprocess.Popen(
            [sys.executable, "-c", WORKER, process],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline().rstrip("\n")

    def do(self, line: str) -> str:
        assert self.child.stdin is not None
        self.child.stdin.write(f"{line}\n")
        self.child.stdin.flush()
        return self._line()

    def value(self, name: str, **labels: str) -> float | None:
        """Of a sample, as this process tells it for all; None: there is no such sample."""
        text = self.do("render").replace("|", "\n")
        found = [
            sample.value
            for family in families(text)
            for sample in family.samples
            if (sample.name, sample.labels) == (name, labels)
        ]
        assert len(found) <= 1, "a series is told once, however many processes there are"
        return found[0] if found else None

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.child.send_signal(how)
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    metrics.prepare(tmp_path / "values", {})
    made = Process(tmp_path / "values", "worker"), Process(tmp_path / "values", "generator")
    yield made
    for process in made:
        if process.child.poll() is None:
            process.end()


def test_what_processes_count_is_added_up_whichever_is_asked(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    for process, tokens in ((one, 3), (other, 40)):
        process.do(f'meter.count("generation_tokens", {tokens}, side="answer")')
        process.do('meter.observe("generation_ttft_seconds", 0.3)')
        process.do(f'meter.gauge("http_in_flight", {tokens})')
    for process in pair:
        assert process.value("pcompiler_generation_tokens_total", side="answer") == 43
        assert process.value("pcompiler_generation_ttft_seconds_count") == 2
        assert process.value("pcompiler_generation_ttft_seconds_bucket", le="0.25") == 0
        assert process.value("pcompiler_generation_ttft_seconds_bucket", le="0.5") == 2
        assert process.value("pcompiler_http_in_flight") == 43
        assert process.value("pcompiler_processes", process="worker") == 1
        assert process.value("pcompiler_processes", process="generator") == 1
        assert process.value("pcompiler_memory_limit_bytes") == memory.limit_bytes()


def test_a_killed_process_loses_nothing_that_it_counted_and_stands_for_nothing(
    pair: tuple[Process, Process], tmp_path: Path
) -> None:
    one, other = pair
    other.do('meter.count("generation_tokens", 40, side="answer")')
    other.do('meter.gauge("queue_length", 7, queue="generate")')
    assert one.value("pcompiler_queue_length", queue="generate") == 7
    other.end(signal.SIGKILL)
    assert one.value("pcompiler_queue_length", queue="generate") == 0
    assert one.value("pcompiler_processes", process="generator") in (None, 0)
    assert one.value("pcompiler_generation_tokens_total", side="answer") == 40
    for number in (1, 2):  # and there are no more files, however many follow
        successor = Process(tmp_path / "values", "generator")
        successor.do('meter.count("generation_tokens", 1, side="answer")')
        successor.do('meter.observe("generation_ttft_seconds", 0.3)')
        successor.end(signal.SIGKILL)
        assert one.value("pcompiler_generation_tokens_total", side="answer") == 40 + number
        assert one.value("pcompiler_generation_ttft_seconds_bucket", le="0.5") == number
        left = {path.stem.rpartition("_")[2] for path in (tmp_path / "values").glob("*.db")}
        assert left == {str(one.child.pid), "0"}


def test_a_new_supervisor_begins_at_zero(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    metrics.prepare(tmp_path / "values", environment)
    assert environment == {metrics.FOLDER: str(tmp_path / "values")}
    (tmp_path / "values" / "counter_1.db").write_bytes(b"left")
    metrics.prepare(tmp_path / "values", environment)
    assert list((tmp_path / "values").iterdir()) == []


def test_an_import_before_the_folder_is_known_is_an_error_and_no_wrong_number(
    tmp_path: Path,
) -> None:
    code = (
        "import prometheus_client\n"
        "from pathlib import Path\n"
        "from pcompiler.serve import metrics\n"
        f"metrics.prepare(Path({str(tmp_path / 'values')!r}))\n"
        "metrics.Exporter()"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ConfigError" in run.stderr
    assert "prepare() comes first" in run.stderr


@pytest.fixture(scope="module")
def exporter() -> Exporter:
    return Exporter()


@pytest.mark.parametrize("section", [None, *SECTIONS])
def test_a_page_has_its_section_and_nothing_else(exporter: Exporter, section: str | None) -> None:
    text = exporter.render(section)[0].decode()
    wanted = {f"pcompiler_{m.name}" for m in TABLE if section in (None, m.section)}
    assert {family.name for family in families(text)} == wanted


def test_prometheus_text_and_open_metrics_each_as_asked_for(exporter: Exporter) -> None:
    text, plain = exporter.render("storage")
    assert plain.startswith("text/plain; version=0.0.4")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    body, kind = exporter.render("storage", accept)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    one, other = ({f.name for f in read(b.decode())} for read, b in
                  ((families, text), (open_families, body)))  # fmt: skip
    assert one == other


def test_a_page_that_is_not_there_says_which_are(exporter: Exporter) -> None:
    with pytest.raises(NotFoundError, match="weight_dynamics, compression, storage"):
        exporter.render("secrets")


def test_what_can_be_told_beforehand_is_there_before_anything_happens(exporter: Exporter) -> None:
    # A hit rate has to be 0 while nothing hits, and not absent: the alert would never fire.
    text = exporter.render("embedding")[0].decode()
    for cache in ("embeddings", "prefix"):
        for result in ("hit", "miss"):
            series = f'pcompiler_cache_requests_total{{cache="{cache}",result="{result}"}} 0.0'
            assert series in text


def test_a_report_without_a_listener_is_nothing() -> None:
    assert meter.listener is None
    meter.count("no such metric")  # only a listener looks names up
    meter.bind("counter", "nor this")(1)
    with meter.timed("nor this"):
        pass
