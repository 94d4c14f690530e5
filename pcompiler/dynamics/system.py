"""The ridge system, its answer, and the check in float64 that every solver's answer passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec

import torch

from pcompiler import meter
from pcompiler.device import widened
from pcompiler.errors import ConfigError, SolveError

TOLERANCE = 1e-4  # relative residual at which a solver has converged


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Attributes:
        x: (k, d), dtype and device of the right-hand side; always finite.
        iterations: steps taken; 0 for a direct solver.
        residuals: relative residuals ‖(G + λsI)X − B‖_F / ‖B‖_F: for an iterative solver of its
            start (1.0) and as each step saw it; the last is always measured, in float64.
        seconds: wall time of solving, without the check in float64.
        converged: the last residual is within the tolerance.
        diverged: an iterative solver gave up because its residual grew; ``x`` is the best iterate.
    """

    x: torch.Tensor
    iterations: int
    residuals: tuple[float, ...]
    seconds: float
    converged: bool
    diverged: bool = False

    @property
    def outcome(self) -> str:
        """In a word: converged, diverged, or stopped after as many steps as were allowed."""
        if self.converged:
            return "converged"
        return "diverged" if self.diverged else "stopped"


Given = ParamSpec("Given")


def reported(solve: Callable[Given, Solution]) -> Callable[Given, Solution]:
    """The same solver; says what each solve came to."""
    of = {"solver": solve.__name__}

    @wraps(solve)
    def run(*args: Given.args, **settings: Given.kwargs) -> Solution:
        try:
            done = solve(*args, **settings)
        except SolveError:
            meter.count("solves", outcome="failed", **of)
            raise
        meter.count("solves", outcome=done.outcome, **of)
        meter.observe("solver_iterations", done.iterations, **of)
        meter.observe("solver_residual", done.residuals[-1], **of)
        meter.observe("solver_seconds", done.seconds, **of)
        return done

    return run


@dataclass(frozen=True)
class System:
    """(G + λ·s·I) X = B with s = tr(G)/k, so that λ means the same in every layer.

    Attributes:
        matrix: (k, k), G + λ·s·I; symmetric.
        rhs: (k, d), B.
        ridge: λ, for messages.
        started: when building it began, ``time.perf_counter()``.
    """

    matrix: torch.Tensor
    rhs: torch.Tensor
    ridge: float
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, gram: torch.Tensor, rhs: torch.Tensor, ridge: float) -> System:
        """Build the system; ``gram`` (k, k) = UᵀU and ``rhs`` (k, d) = UᵀT stay as they are.

        Raises:
            ConfigError: λ is negative or not finite.
            SolveError: G or B has values that are not finite.
        """
        started = time.perf_counter()
        assert gram.shape == (len(rhs), len(rhs)), "gram is (k, k) where rhs is (k, d)"
        if not 0 <= ridge < float("inf"):
            raise ConfigError(f"ridge is {ridge}; it must be 0 or more, 0.01 to 1 as a rule.")
        if not (bool(gram.isfinite().all()) and bool(rhs.isfinite().all())):
            raise SolveError(
                "the Gram matrix or the right-hand side has values that are not finite; look for "
                "overflow in the activations that they were summed from (float16 ends at 65,504)."
            )
        matrix = gram.clone()
        matrix.diagonal().add_(ridge * gram.diagonal().mean())
        return cls(matrix, rhs, ridge, started)

    def double(self) -> System:
        """The same system in float64, on the CPU where the device has none; its clock goes on."""
        return System(widened(self.matrix), widened(self.rhs), self.ridge, self.started)

    def unit_diagonal(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """D^-½ A D^-½ (k, k), D^-½ B (k, d) and D^½ (k, 1), D = diag A; where D is 0 it is left."""
        diagonal = self.matrix.diagonal()
        root = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).sqrt()[:, None]
        return self.matrix / root / root.T, self.rhs / root, root

    def residual(self, x: torch.Tensor) -> float:
        """‖AX − B‖_F / ‖B‖_F in float64; 0 where B and X are 0. Costs 2·k²·d operations."""
        exact = self.double()
        off = exact.matrix @ widened(x) - exact.rhs
        size = float(exact.rhs.norm())
        return float(off.norm()) / size if size else float(x.abs().max())

    def answer(
        self,
        x: torch.Tensor,
        history: tuple[float, ...] = (),
        tolerance: float = TOLERANCE,
        *,
        diverged: bool = False,
    ) -> Solution:
        """Stop the clock and check in float64; ``history`` is what each iteration saw.

        Raises:
            SolveError: ``x`` has values that are not finite.
        """
        x = x.to(self.rhs.dtype).to(self.rhs.device)
        if not bool(x.isfinite().all()):  # also waits for the device
            raise self.unsolvable("its solution overflows")
        seconds = time.perf_counter() - self.started
        measured = self.residual(x)
        steps = max(len(history) - 1, 0)
        ok = measured <= tolerance
        return Solution(x, steps, (*history[:-1], measured), seconds, ok, diverged and not ok)

    def unsolvable(self, what: str) -> SolveError:
        """The error of a system that even float64 does not solve."""
        k, d = self.rhs.shape
        return SolveError(
            f"a ridge system of {k} unknowns and {d} right-hand sides with ridge {self.ridge:g} "
            f"is singular to working precision ({what}); raise the ridge (0.01 is enough as a "
            "rule) or give more rows than unknowns."
        )
