"""The convergence study: every solver on real activations, over context sizes, rates and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pcompiler.bench import reference
from pcompiler.bench.activations import PIECE, Activations, collect, real_text
from pcompiler.dynamics.forecast import descent_steps
from pcompiler.dynamics.lowrank import truncate
from pcompiler.dynamics.solvers import conjugate_gradients, direct, gradient_descent
from pcompiler.dynamics.system import TOLERANCE, Solution
from pcompiler.model import LanguageModel
from pcompiler.ops import gram
from pcompiler.table import render


@dataclass(frozen=True)
class Study:
    """What is varied.

    Attributes:
        contexts: tokens of context; multiples of 64.
        rates: learning rates of gradient descent.
        ranks: of the truncated solution.
        ridge: λ.
        layer: whose W_down; a middle layer of SmolLM2's 30.
        max_steps: of gradient descent; how many more it needs is then forecast from the spectrum.
    """

    contexts: tuple[int, ...] = (512, 1024, 2048, 4096)
    rates: tuple[float, ...] = (0.001, 0.01, 0.1)
    ranks: tuple[int, ...] = (16, 32, 64, 128)
    ridge: float = 0.1
    layer: int = 15
    max_steps: int = 200

    def __post_init__(self) -> None:
        assert all(n > 0 and n % PIECE == 0 for n in self.contexts), "contexts are whole pieces"

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.contexts) * (2 + len(self.rates))


QUICK = Study(contexts=(512, 1024), max_steps=25)


@dataclass(frozen=True)
class Run:
    """One solver on one problem.

    Attributes:
        context: tokens.
        solver: its name.
        rate: learning rate, of gradient descent only.
        iterations: steps taken.
        needed: steps to a residual of 1e-4: those taken, or the forecast; none if it diverges.
        error: final relative residual, measured in float64.
        solve_s: seconds.
        converged: the residual is 1e-4 or less.
        diverged: the rate is too high.
        fit: ‖UX − T‖_F/‖T‖_F at full rank.
        fit_at_rank: the same after truncation, by rank.
        residuals: of every step.
    """

    context: int
    solver: str
    rate: float | None
    iterations: int
    needed: int | None
    error: float
    solve_s: float
    converged: bool
    diverged: bool
    fit: float
    fit_at_rank: dict[int, float]
    residuals: tuple[float, ...]


def text_activations(model: LanguageModel, study: Study) -> Activations:
    """Rows of real text for the longest context of a study."""
    text = real_text()[: 12 * max(study.contexts)]  # a token has 4 characters or so
    ids = model.tokenizer.encode(text, add_special_tokens=False, verbose=False)
    return collect(model, ids[: max(study.contexts)], study.layer)


def run(rows: Activations, study: Study) -> Iterator[Run]:
    """Every solver on every context size; yields as it goes."""
    for context in study.contexts:
        problem = _Problem(rows.first(context), study)
        yield problem.run("direct", direct)
        yield problem.run("conjugate gradients", conjugate_gradients)
        forecasts = descent_steps(problem.gram, problem.rhs, study.ridge, study.rates)
        for rate, steps in zip(study.rates, forecasts, strict=True):
            yield problem.descend(rate, None if math.isinf(steps) else int(steps))


class _Problem:
    def __init__(self, rows: Activations, study: Study) -> None:
        self.study, self.context = study, rows.tokens
        self.gram = gram(rows.inputs)
        self.rhs = rows.inputs.T @ rows.targets
        self.target_size = float(rows.targets.norm())

    def run(self, name: str, solve: Callable[[torch.Tensor, torch.Tensor, float], Solution]) -> Run:
        done = solve(self.gram, self.rhs, self.study.ridge)
        return self._run(name, None, done, done.iterations if done.converged else None)

    def descend(self, rate: float, forecast: int | None) -> Run:
        steps = self.study.max_steps
        done = gradient_descent(self.gram, self.rhs, self.study.ridge, rate, max_iterations=steps)
        needed = done.iterations if done.converged else forecast
        return self._run("gradient descent", rate, done, needed)

    def _run(self, name: str, rate: float | None, done: Solution, needed: int | None) -> Run:
        full, by_rank = self._fits(done.x)
        return Run(
            self.context, name, rate, done.iterations, needed, done.residuals[-1], done.seconds,
            done.converged, done.diverged, full, by_rank, done.residuals,
        )  # fmt: skip

    def _fits(self, x: torch.Tensor) -> tuple[float, dict[int, float]]:
        """‖UXP − T‖² = tr(PᵀXᵀGXP) − 2·tr(PᵀXᵀBP) + ‖T‖² for projections P of the outputs."""
        energy, match = x.T @ (self.gram @ x), x.T @ self.rhs
        change = energy - 2 * match
        _, top = truncate(x, self.gram, max(self.study.ranks))
        shares = (top * (change @ top)).sum(0).cpu().double().cumsum(0)  # MPS has no float64

        def share(gain: float) -> float:
            return math.sqrt(max(gain + self.target_size**2, 0.0)) / self.target_size

        by_rank = {r: share(float(shares[min(r, len(shares)) - 1])) for r in self.study.ranks}
        return share(float(change.diagonal().cpu().double().sum())), by_rank


def as_table(runs: Sequence[Run], study: Study) -> str:
    """The runs beside the reference."""
    columns = [
        "context", "solver", "rate", f"steps to {TOLERANCE:.0e}", "final residual", "ms",
        "fit error", *(f"rank {r}" for r in study.ranks), "reference steps", "reference error",
    ]  # fmt: skip
    return render(columns, [_row(r, study) for r in runs])


def as_json(runs: Sequence[Run], study: Study) -> dict[str, Any]:
    """Study and runs; ``needed`` is null where a rate diverges."""
    return {"study": asdict(study), "runs": [asdict(run) for run in runs]}


def _row(run: Run, study: Study) -> list[str]:
    published = run.rate == reference.CONVERGENCE_RATE
    steps = reference.CONVERGENCE_STEPS.get(run.context) if published else None
    error = reference.CONVERGENCE_ERROR.get(run.context) if published else None
    return [
        f"{run.context:,}", run.solver, "–" if run.rate is None else f"{run.rate:g}",
        _steps(run), f"{run.error:.1e}", f"{run.solve_s * 1000:.0f}", f"{run.fit:.3f}",
        *(f"{run.fit_at_rank[r]:.3f}" for r in study.ranks),
        "–" if steps is None else str(steps), "–" if error is None else f"{error:.1e}",
    ]  # fmt: skip


def _steps(run: Run) -> str:
    if run.converged:
        return f"{run.iterations:,}"
    if run.diverged or run.needed is None:
        return "diverges"
    return f"{run.needed:,} (forecast; ran {run.iterations:,})"
