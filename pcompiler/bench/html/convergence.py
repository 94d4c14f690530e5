"""The convergence study as plots: residual against step, a panel for each context size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcompiler.bench import reference
from pcompiler.bench.html.axis import Axis
from pcompiler.bench.html.plot import Mark, Plot, Rule, Series
from pcompiler.bench.html.quantity import number, quantity

TARGET = 1e-4
START = 0.5  # where a logarithmic axis has step 0
RATE_COLOURS = (2, 3, 5)
TOP, BOTTOM = 3.0, 1e-6


@dataclass(frozen=True)
class Study:
    """One kept study.

    Attributes:
        hardware: that it ran on.
        commit: of the checkout.
        plots: by context size.
        rows: context, solver, steps, reference steps, final residual, milliseconds.
    """

    hardware: str
    commit: str | None
    plots: tuple[Plot, ...]
    rows: tuple[tuple[str, ...], ...]


def study(data: Mapping[str, Any]) -> Study:
    """From the JSON of benches/weight_convergence_test.py."""
    runs = data["runs"]
    contexts = sorted({run["context"] for run in runs})
    plots = tuple(_plot(c, [run for run in runs if run["context"] == c]) for c in contexts)
    return Study(data["hardware"], data["commit"], plots, tuple(_row(run) for run in runs))


def _plot(context: int, runs: Sequence[Mapping[str, Any]]) -> Plot:
    rates = sorted(run["rate"] for run in runs if run["rate"] is not None)
    series = tuple(_series(run, rates) for run in runs if run["residuals"][1:])
    most = max([len(run["residuals"]) for run in runs] + [10])
    x = Axis(START * 0.9, most * 1.1, lambda v: f"{v:.0f}", title="step")
    y = Axis(BOTTOM, TOP, _power, title="relative residual")
    return Plot(f"{context:,} tokens", x, y, series, (Rule("converged: 1e-4", TARGET),), 220)


def _series(run: Mapping[str, Any], rates: Sequence[float]) -> Series:
    marks = tuple(
        Mark(step or START, residual, f"step {step}: {residual:.1e}")
        for step, residual in enumerate(run["residuals"])
    )
    if run["rate"] is None:
        return Series(run["solver"].capitalize(), marks, 1, "circle" if len(marks) < 20 else "")
    colour = RATE_COLOURS[rates.index(run["rate"]) % len(RATE_COLOURS)]
    return Series(_name(run), marks, colour, "")


def _name(run: Mapping[str, Any]) -> str:
    solver = str(run["solver"]).capitalize()
    return solver if run["rate"] is None else f"{solver}, rate {run['rate']:g}"


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    published = run["rate"] == reference.CONVERGENCE_RATE
    steps = reference.CONVERGENCE_STEPS.get(run["context"]) if published else None
    return (
        f"{run['context']:,}", _name(run), _steps(run), "" if steps is None else str(steps),
        f"{run['error']:.1e}", quantity(run["solve_s"], "s"),
    )  # fmt: skip


def _steps(run: Mapping[str, Any]) -> str:
    if run["solver"] == "direct":
        return "exact, no steps"
    if run["converged"]:
        return f"{run['iterations']:,}"
    if run["diverged"] or run["needed"] is None:
        return "diverges"
    return f"{number(run['needed'])} (forecast; ran {run['iterations']:,})"


def _power(value: float) -> str:
    return f"{value:g}" if value >= 0.01 else f"{value:.0e}".replace("e-0", "e−")
