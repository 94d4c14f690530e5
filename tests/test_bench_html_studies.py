"""The plots of studies: means over the same prompts, a frontier unbeaten, steps as taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pcompiler.bench.html.convergence import study
from pcompiler.bench.html.studies import fidelity, results, semantic
from pcompiler.errors import InputError


def artifact(method: str, size: int, kl: float, **other: Any) -> dict[str, Any]:
    return {"method": method, "bytes": size, "kl": kl, "rank": 0, "bits": 16, **other}


def contexts(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    none = {"method": "no prompt", "bytes": 0, "kl": 0.9}
    return [{"rows": [none, *rows]}, {"rows": [none, *rows]}]


def test_points_are_means_over_all_prompts_or_not_drawn() -> None:
    some = contexts(artifact("matching", 100, 0.1, factor=10.0))
    some[0]["rows"][1] = artifact("matching", 300, 0.3, factor=10.0)
    some[0]["rows"].append(artifact("matching", 50, 0.01, factor=50.0))  # of one prompt only
    found = fidelity(some)
    assert found is not None
    (series,) = [s for s in found.plot.series if s.name == "Compact cache"]
    assert [(mark.x, mark.y) for mark in series.marks] == [(200, 0.2)]
    assert found.prompts == 2
    assert [rule.y for rule in found.plot.rules] == [0.9]


def test_the_frontier_has_nothing_that_something_of_its_size_beats() -> None:
    found = fidelity(
        contexts(
            artifact("matching", 100, 0.1, factor=50.0),
            artifact("matching", 1000, 0.01, factor=10.0),
            artifact("hybrid", 500, 0.2, rank=16, factor=50.0),
            artifact("matching per head", 98, 0.3, factor=50.0),  # as good as the same size
            artifact("weights", 5000, 0.5, rank=64, factor=None),
        )
    )
    assert found is not None
    frontier = found.plot.series[0]
    assert [(mark.x, mark.y) for mark in frontier.marks] == [(100, 0.1), (1000, 0.01)]
    left, right = (found.plot.x.at(mark.x) for mark in frontier.marks)
    higher, lower = (found.plot.down(mark.y) for mark in frontier.marks)
    assert left < right
    assert higher < lower  # from the top


def test_a_method_that_failed_on_a_prompt_is_not_drawn() -> None:
    def row(method: str, **other: Any) -> dict[str, Any]:
        return {"method": method, "rate": 0.5, "rate_met": 0.5, "kl": 0.2, **other}

    both = [{"rows": [row("ours"), row("llmlingua")]} for _ in range(2)]
    both[1]["rows"][1] = {"method": "llmlingua", "rate": 0.5, "error": "too long"}
    found = semantic(both)
    assert found is not None
    assert [series.name for series in found.plot.series] == ["Ours"]
    assert semantic([]) is None
    assert fidelity([]) is None


def test_residuals_are_at_their_own_steps() -> None:
    run = {
        "context": 512, "solver": "gradient descent", "rate": 0.01, "iterations": 2, "needed": None,
        "error": 0.5, "solve_s": 0.1, "converged": False, "diverged": True,
        "residuals": [1.0, 0.5, 0.4],
    }  # fmt: skip
    shown = study({"hardware": "a machine", "commit": None, "runs": [run]})
    (plot,) = shown.plots
    assert [(mark.x, mark.y) for mark in plot.series[0].marks[1:]] == [(1, 0.5), (2, 0.4)]
    assert plot.series[0].marks[0].x < 1
    assert shown.rows[0][2:4] == ("diverges", "45")


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json"):
        results(tmp_path)
    assert results(tmp_path / "none") == []
