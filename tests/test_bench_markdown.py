"""The page of a saved run: every suite's figures, what was reached, what was missed and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benches import write_report
from pcompiler.bench import archive
from pcompiler.bench.calibration import Calibration
from pcompiler.bench.harness import Figure
from pcompiler.bench.markdown import page
from pcompiler.bench.runs import Part, Run

FIGURES = (
    Figure("a", "quick enough", 0.5, "s", "lower", reference=1.0, spread=0.1),
    Figure("a", "too slow", 2.0, "s", "lower", reference=1.0, note="bounded by physics"),
    Figure("b", "x|y", 3.0, "bytes", "lower", baseline=4.0),
)


@pytest.fixture
def run() -> Run:
    c = Calibration((1.0,), (1.0,))
    parts = (Part("a", 1.5, c, c), Part("b", 1.0, c, replace(c, wall_s=(1.5,))))
    return Run(FIGURES, parts, "a machine", "cpu", None, "2026-01-01", 3.0, False, 2)


def test_each_suite_says_what_was_reached_and_why_not(run: Run) -> None:
    head, a, b = page(run).split("## ")[0], *page(run).split("\n## ")[1:]
    assert "a machine" in head
    assert "1 of 2 reference figures reached." in head
    assert "b: the machine drifted by 50 %" in head
    assert "| quick enough | 500 ms ± 100 ms | 1.00 s | reached |  |" in a
    assert "- too slow: bounded by physics" in a
    assert r"| x\|y | 3 B |  |  | 4 B |" in b
    assert "Missed" not in b


def test_the_script_writes_the_page(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.write(run, tmp_path / "one.json")
    out = tmp_path / "one.md"
    assert write_report.main([str(tmp_path / "one.json"), "--out", str(out)]) == 0
    assert out.read_text() == page(run)
    assert write_report.main([str(tmp_path / "one.json"), "--out", "-"]) == 0
    assert capsys.readouterr().out.endswith(page(run))
    assert write_report.main([str(tmp_path / "one.json"), "--out", "/no/such/x.md"]) == 2
    assert write_report.main(["no-such-run"]) == 2
