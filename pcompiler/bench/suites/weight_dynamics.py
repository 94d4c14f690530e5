"""Weight dynamics on SmolLM2: exact updates a second, their accuracy and size, and solvers.

What bounds it: a ridge solve of N rows takes N·k² (Gram, by symmetry) + 2·N·k·d + k³/3 + 2k²d
operations (N = 4,096, k = 1,536, d = 576: 21 GFLOP), so 50 ms need 420 GFLOP/s; the update of one
token in one block takes 4·k·d (3.5 MFLOP), so 10,000 a second need 35 GFLOP/s.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from pcompiler import progress
from pcompiler.bench import convergence, memory, reference, updates
from pcompiler.bench.activations import real_text
from pcompiler.bench.convergence import QUICK, Run, Study
from pcompiler.bench.harness import Figure, Samples, Setting
from pcompiler.dynamics.lowrank import truncate
from pcompiler.dynamics.solvers import direct
from pcompiler.model import LanguageModel
from pcompiler.ops import gram

SHORT = 8  # tokens of each of many contexts
RANK = 16  # of a static patch
COUNTS = (1, 10, 100, 1000, 10_000)
QUICK_COUNTS = (1, 10, 100)
ENOUGH = 1_000  # contexts, for what they take to be more than what comes and goes besides
SIDE = 2048  # of the matrix product that tells this machine's rate
LOADED = """
from pcompiler import memory
from pcompiler.model import LanguageModel
model = LanguageModel.load("smollm2", "cpu", "float32")
held = sum(float(p.sum()) for p in model.hf.parameters())  # weights are read when they are used
print(memory.peak_bytes())
"""
_figure = partial(Figure, "weight_dynamics")


def run(setting: Setting) -> list[Figure]:
    """All figures of the suite."""
    # float32 everywhere: accuracy against theory is to be rounding, not the model's own dtype.
    model = LanguageModel.load("smollm2", str(setting.device.handle), "float32")
    bench = _Bench(setting, model)
    parts: tuple[Callable[[], list[Figure]], ...] = (
        bench.base, bench.convergence, bench.solve, bench.updates, bench.growth,
    )  # fmt: skip
    figures = []
    with progress.bar(len(parts), "weight_dynamics", "part") as shown:
        for part in parts:
            figures += part()
            shown.update()
    return figures


class _Bench:
    def __init__(self, setting: Setting, model: LanguageModel) -> None:
        self.setting, self.model = setting, model
        self.study = QUICK if setting.quick else Study()
        self.rows = convergence.text_activations(model, self.study)
        self.ids = model.tokenizer.encode(real_text(), verbose=False)

    def convergence(self) -> list[Figure]:
        """Steps of each solver; benches/weight_convergence_test.py shows all of the study."""
        runs = list(convergence.run(self.rows, self.study))
        return [f for one in runs for f in (*_conjugate(one), *_descent(one))]

    def solve(self) -> list[Figure]:
        """Gram matrix, right-hand side, Cholesky; beside its operations at the matmul rate."""
        u, t = self.rows.inputs, self.rows.targets
        whole, alone = Samples(), Samples()
        bound = self._floor(len(u), u.shape[1], t.shape[1])
        gram(u)  # warm-up
        for _ in self.setting.repeat.until_steady(whole.wall):
            self.setting.device.synchronize()
            start = time.perf_counter()
            g, b = gram(u), u.T @ t
            self.setting.device.synchronize()
            built = time.perf_counter() - start
            solution = direct(g, b, self.study.ridge)  # its check in float64 is not in its seconds
            whole.wall.append(built + solution.seconds)
            alone.wall.append(solution.seconds)
        name = f"direct solve of one layer, {self.rows.tokens:,} tokens"
        return [
            _figure(
                f"{name}, Gram matrix included", whole.median, "s", "lower",
                reference.CONVERGENCE_S, bound, whole.spread, goal=reference.CONVERGENCE_GOAL_S,
                note="the baseline is the floor on this machine: its operations at the rate of a "
                "large matrix product in the same run.",
            ),
            _figure("… without the Gram matrix", alone.median, "s", "lower",
                    reference.CONVERGENCE_S, spread=alone.spread,
                    goal=reference.CONVERGENCE_GOAL_S),
            self._patch_size(solution.x, g),
        ]  # fmt: skip

    def updates(self) -> list[Figure]:
        """The exact update of each token: rate of the algebra, accuracy of the whole."""
        times = updates.one_layer(self.setting, self.model, self.ids, self.study.layer)
        rate = updates.TOKENS / times.median
        patched, alone = updates.errors(self.model, self.ids[:512], self.ids[512:544])
        return [
            _figure(
                "exact updates of one layer, states given", rate, "updates/s", "higher",
                reference.UPDATES_PER_S, spread=rate * times.spread / times.median,
                cpu_s=times.cpu_median, note="an update is 4·k·d operations.",
                goal=reference.UPDATES_PER_S_GOAL,
            ),
            _figure(
                "accuracy against theory, all layers", 100 * (1 - patched), "%", "higher",
                100 * reference.ACCURACY, 100 * (1 - alone), goal=100 * reference.ACCURACY_GOAL,
            ),
        ]  # fmt: skip

    def growth(self) -> list[Figure]:
        """Time and memory from 1 context to many; the last count is fewer with --quick."""
        figures = []
        for count in QUICK_COUNTS if self.setting.quick else COUNTS:
            held = updates.many(self.setting, self.model, self.ids, count, SHORT)
            rate = count * self.model.card.layers / held.seconds
            name = f"exact updates, {count:,} contexts of {SHORT} tokens"
            peak = memory.peak(self.setting.device).host_bytes
            figures += [
                _figure(f"{name}, all layers", held.seconds, "s", "lower"),
                _figure(f"{name}, per layer", rate, "updates/s", "higher", reference.UPDATES_PER_S,
                        note="forward passes over contexts and queries are included."),
                _figure(f"{name}, factors", held.factors_bytes, "bytes", "lower",
                        count / 1000 * reference.BYTES_PER_1000_CONTEXTS),
                _figure(f"{name}, peak memory so far", peak, "bytes", "lower",
                        reference.PEAK_BYTES.get(count)),
            ]  # fmt: skip
            if count >= ENOUGH and self.setting.device.is_host and held.grown_bytes > 0:
                share = min(100.0, 100 * held.factors_bytes / held.grown_bytes)
                figures.append(_figure(
                    f"{name}, factors' share of what the process grew by", share, "%", "higher",
                    100 * reference.MEMORY_EFFICIENCY,
                    note="the rest is what the allocator keeps for the next forward pass.",
                ))  # fmt: skip
        return figures

    def base(self) -> list[Figure]:
        """Memory before any context, of a process that does nothing else; mapped weights too."""
        weights = sum(p.numel() * p.element_size() for p in self.model.hf.parameters())
        command = [sys.executable, "-c", LOADED]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        return [
            _figure(
                "most memory of a process that loads the model", int(done.stdout), "bytes",
                "lower", reference.BASE_BYTES, weights,
                note="the baseline is the model's weights; the reference system ran no model.",
            )
        ]  # fmt: skip

    def _patch_size(self, x: torch.Tensor, g: torch.Tensor) -> Figure:
        a, b = truncate(x, g, RANK)
        size = 2 * (a.numel() + b.numel()) * self.model.card.layers
        return _figure(
            f"static patch of rank {RANK}, all layers, 16 bit", size, "bytes", "lower",
            reference.BYTES_PER_CONTEXT, note=f"{RANK}·(k + d) numbers a layer; the reference is "
            "for a context of 1,000 tokens, and a patch is the same size for every context.",
        )  # fmt: skip

    def _floor(self, n: int, k: int, d: int) -> float:
        """Seconds that the operations of a solve take at the rate of a large matrix product."""
        a = torch.randn(SIDE, SIDE, device=self.setting.device.handle)
        times = Samples()
        for _ in range(4):
            times.time(self.setting.device, lambda: a @ a)
        rate = 2 * SIDE**3 / min(times.wall)
        return (n * k**2 + 2 * n * k * d + k**3 / 3 + 2 * k**2 * d) / rate


def _conjugate(done: Run) -> list[Figure]:
    if done.solver != "conjugate gradients":
        return []
    name = f"conjugate gradients, {done.context:,} tokens"
    return [
        _figure(f"{name}: steps to 1e-4", done.iterations, "steps", "lower",
                reference.CONVERGENCE_STEPS.get(done.context), goal=reference.CONJUGATE_STEPS_GOAL),
        _figure(f"{name}: final residual", done.error, "", "lower",
                reference.CONVERGENCE_ERROR.get(done.context),
                note="a step takes it from above 1e-4 to where it ends; the next would end lower."),
        _figure(f"{name}: time", done.solve_s, "s", "lower", reference.CONVERGENCE_S,
                note="a step orthonormalises d right-hand sides; direct is the faster here."),
    ]  # fmt: skip


def _descent(done: Run) -> list[Figure]:
    if done.solver != "gradient descent" or done.needed is None:
        return []  # a rate that diverges has no figure; the study's table says so
    published = done.rate == reference.CONVERGENCE_RATE
    goal = reference.CONVERGENCE_STEPS.get(done.context) if published else None
    how = None if done.converged else "forecast from the spectrum"
    name = f"gradient descent, {done.context:,} tokens, rate {done.rate:g}: steps to 1e-4"
    note = (
        "at a fixed rate the slowest direction falls as (1 − rate·λ_min)ⁿ, and real activations "
        "spread over orders of magnitude."
    )
    return [_figure(name, done.needed, "steps", "lower", goal, note=note, by=how)]
