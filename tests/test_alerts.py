"""Limits on a run's figures; the committed rules are those that the data says."""

from __future__ import annotations

import ast
import gc
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pcompiler import memory
from pcompiler.alerts import ALERTS, Alert, raised
from pcompiler.bench.archive import read
from pcompiler.bench.harness import Figure
from pcompiler.bench.suites import SUITES

ROOT = Path(__file__).parent.parent
GB = 2**30
BEYOND = {
    "SlowCompilation": Figure("compilation", "compile to kv, storing included", 1.01, "s", "lower"),
    "ManyIterations": Figure(
        "weight_dynamics", "conjugate gradients, 512 tokens: steps to 1e-4", 151, "steps", "lower"
    ),
    "SlowStorage": Figure("storage_performance", "get, hot, p99", 0.0101, "s", "lower"),
    "MemoryNearLimit": Figure(
        "compilation", "peak memory of the process", 9.1 * GB, "bytes", "lower"
    ),
    "LowCacheHitRate": Figure("embedding_generation", "… hit rate", 79.9, "%", "higher"),
}
AT = {
    "SlowCompilation": 1.0,
    "ManyIterations": 150,
    "SlowStorage": 0.01,
    "MemoryNearLimit": 9.0 * GB,
    "LowCacheHitRate": 80,
}


@pytest.mark.parametrize("alert", [a for a in ALERTS if a.figures], ids=lambda a: a.name)
def test_a_figure_beyond_the_limit_raises_its_alert_and_one_at_the_limit_does_not(
    alert: Alert,
) -> None:
    figure = BEYOND[alert.name]
    (found,) = raised([figure], 10 * GB)
    assert (found.alert, found.figure) == (alert, figure.name)
    assert raised([replace(figure, value=AT[alert.name])], 10 * GB) == []


def test_figures_that_no_limit_is_for_raise_nothing() -> None:
    others = [
        Figure("compilation", "… of it the walk", 31.0, "s", "lower"),
        Figure("compilation", "compile to kv, storing included", 31.0, "×", "lower"),
        Figure("storage_performance", "listing 100000 artifacts", 1.9, "s", "lower"),
        Figure("embedding_generation", "compile to kv", 31.0, "s", "lower"),
    ]
    assert raised(others, 10 * GB) == []


def test_a_committed_run_raises_no_alert_of_storage() -> None:
    run = read(ROOT / "benches" / "results" / "runs" / "epyc-2-cores-storage.json")
    assert raised(run.figures, 24 * GB) == []
    slow = [replace(figure, value=figure.value * 5000) for figure in run.figures]
    assert {found.alert.name for found in raised(slow, 24 * GB)} == {"SlowStorage"}


def test_every_pattern_fits_a_figure_that_its_suite_makes() -> None:
    for alert in ALERTS:
        for suite, pattern in alert.figures:
            sources = [
                (ROOT / "pcompiler" / "bench" / "suites" / f"{name}.py").read_text()
                for name in (SUITES if suite == "*" else (suite,))
            ]
            names = [name for source in sources for name in _strings(source)]
            assert any(re.search(pattern, name) for name in names), (suite, pattern)


def _strings(source: str) -> list[str]:
    """Strings of a module; what f-strings fill in is a number or a name here."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "x" for p in node.values)
            found.append("".join(str(part) for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def test_memory_in_use_grows_by_what_is_allocated_and_is_below_the_limit() -> None:
    gc.collect()  # or a model of another test goes meanwhile
    gc.collect()
    before = memory.used_bytes()
    block = bytearray(64 * 2**20)
    assert memory.used_bytes() - before > len(block) * 0.9
    assert memory.used_bytes() < memory.limit_bytes()
