"""Rules, dashboards and a real Prometheus: all of them know the metrics that we export."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import promql_parser as promql
import pytest
import yaml

from monitoring import generate
from pcompiler import meter
from pcompiler.alerts import ALERTS
from pcompiler.measures import METRICS, TABLE, Metric
from pcompiler.serve.metrics import Exporter
from pcompiler.store.db import Store

FOLDER = Path(__file__).parent.parent / "monitoring"
BOARDS = sorted(FOLDER.glob("grafana/*.json"))
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
EXPORTED = {m.exported + part: m for m in TABLE for part in PARTS[m.kind]}

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus and promtool are not here; on Debian, apt install prometheus",
)


def test_what_is_committed_is_what_is_generated() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="Grafana's SDK needs Python 3.11")
    files = generate.files()
    for name, text in files.items():
        committed = (FOLDER / name).read_text(encoding="utf-8")
        assert committed == text, f"{name}: run python monitoring/generate.py"
    assert {path.name for path in BOARDS} == {Path(n).name for n in files if n.endswith(".json")}
    assert generate.rules() == (FOLDER / "alerts.yml").read_text(encoding="utf-8")


def queries() -> list[tuple[str, str]]:
    """Where it stands, and a PromQL expression."""
    found = [
        (f"{path.stem}: {panel['title']}", target["expr"])
        for path in BOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", [])
    ]
    return [*found, *((alert.name, alert.expression) for alert in ALERTS)]


def selectors(expression: str) -> list[tuple[str, dict[str, str], set[str]]]:
    """Each metric with the labels that it is selected by, and those that it is summed by."""
    found: list[tuple[str, dict[str, str], set[str]]] = []

    def walk(node: Any, by: set[str]) -> None:
        if isinstance(node, promql.AggregateExpr):
            grouped = node.modifier.labels if node.modifier else []
            walk(node.expr, by | set(grouped))
        elif isinstance(node, promql.BinaryExpr):
            walk(node.lhs, by)
            walk(node.rhs, by)
        elif isinstance(node, promql.Call):
            for argument in node.args:
                walk(argument, by)
        elif isinstance(node, promql.ParenExpr):
            walk(node.expr, by)
        elif isinstance(node, promql.MatrixSelector):
            walk(node.vector_selector, by)
        elif isinstance(node, promql.VectorSelector):
            matchers = {m.name: m.value for m in node.matchers.matchers}
            found.append((node.name, matchers, by))
        else:
            assert isinstance(node, promql.NumberLiteral), f"{type(node)} in {expression}"

    walk(promql.parse(expression.replace("$__rate_interval", "1m")), set())
    return found


def check(name: str, chosen: dict[str, str], by: set[str]) -> None:
    metric: Metric = EXPORTED[name]
    labels = {**metric.labels, **({"le": ()} if name.endswith("_bucket") else {})}
    assert by <= labels.keys(), f"{name} has no labels {by - labels.keys()}"
    for label, value in chosen.items():
        assert value in metric.labels[label], f"{name}: {label} is never {value}"


@pytest.mark.parametrize(("where", "expression"), queries(), ids=lambda text: text[:60])
def test_every_query_names_metrics_labels_and_values_that_are_exported(
    where: str, expression: str
) -> None:
    found = selectors(expression)
    assert found, where
    for selector in found:
        check(*selector)


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(pcompiler_nothing_total[1m])",
        'rate(pcompiler_http_requests_total{status="2"}[1m])',
        "sum by (client) (pcompiler_http_in_flight)",
        "pcompiler_http_seconds",
    ],
)
def test_a_query_that_asks_for_what_is_not_there_is_found(wrong: str) -> None:
    (selector,) = selectors(wrong)
    with pytest.raises((KeyError, AssertionError)):
        check(*selector)


def test_each_metric_is_on_a_dashboard() -> None:
    shown = {EXPORTED[name].name for _, expr in queries() for name, _, _ in selectors(expr)}
    left_out = {"pass_tokens", "prompt_tokens", "embedding_seconds", "compression_seconds"}
    assert set(METRICS) - shown == left_out


def test_names_and_legends_are_of_labels_that_are_summed_by() -> None:
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                assert all(named <= by for _, _, by in selectors(target["expr"])), panel["title"]


@needs_prometheus
def test_promtool_accepts_the_configuration_and_its_tests_of_every_alert_pass() -> None:
    for command in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    wanted = {(alert.name, fires) for alert in ALERTS for fires in (True, False)}
    assert {
        (rule["alertname"], bool(rule["exp_alerts"]))
        for test in tests
        for rule in test["alert_rule_test"]
    } == wanted


@contextmanager
def served(exporter: Exporter) -> Iterator[int]:
    """The port on which the exporter's pages are."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            section = self.path.removeprefix("/metrics").strip("/") or None
            body, content_type = exporter.render(section, self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def scraping(port: int, folder: Path) -> Iterator[str]:
    """A real Prometheus with our configuration, but for the target and how often; its address."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(FOLDER / "alerts.yml", folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        own = probe.server_address[1]  # free a moment later
    command = [
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{own}"),
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as child:
        yield f"http://127.0.0.1:{own}"
        child.terminate()


def ask(address: str, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"{address}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]
    except OSError:  # it is starting
        return None


def query(address: str, expression: str, seconds: float = 60) -> list[Any]:
    """Ask until there is an answer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = ask(address, f"query?query={quote(expression)}")
        if found and found["result"]:
            result: list[Any] = found["result"]
            return result
        time.sleep(0.2)
    raise AssertionError(f"Prometheus never answered {expression}")


@needs_prometheus
@pytest.mark.prometheus
def test_a_real_prometheus_scrapes_us_and_answers_with_our_series(tmp_path: Path) -> None:
    exporter = Exporter()
    meter.attach(exporter)
    try:
        with Store(tmp_path / "s") as store, served(exporter) as port:
            for number in range(100):
                store.records.put("names", b"%d" % number, bytes(10))
            with scraping(port, tmp_path) as address:
                (puts,) = query(address, 'pcompiler_store_operations_total{operation="put"}')
                assert puts["value"][1] == "100"
                assert puts["metric"]["job"] == "pcompiler"
                store.records.put("names", b"more", b"")
                (more,) = query(address, 'pcompiler_store_operations_total{operation="put"} == 101')
                assert more["metric"] == puts["metric"]
                query(address, "count_over_time(up[1m]) > 3")
                rules = ask(address, "rules")["groups"][0]["rules"]
                assert {(rule["name"], rule["health"]) for rule in rules} == {
                    (alert.name, "ok") for alert in ALERTS
                }
                for where, expression in queries():
                    asked = expression.replace("$__rate_interval", "10s")
                    assert ask(address, f"query?query={quote(asked)}") is not None, where
                help_ = ask(address, "metadata?metric=pcompiler_store_operations")
                assert METRICS["store_operations"].help in str(help_)
    finally:
        meter.attach(None)
