"""What benchmarks found as pictures; matplotlib is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pcompiler.errors import ConfigError

if TYPE_CHECKING:
    from pcompiler.bench.convergence import Run
    from pcompiler.bench.simulation import Sample


def check_plot() -> None:
    """Before anything slow runs.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as e:
        raise ConfigError(
            "a plot needs matplotlib, which is not installed; "
            "install it with: pip install 'pcompiler[bench]'"
        ) from e


def memory(samples: Sequence[Sample], path: Path) -> None:
    """Write resident memory against time.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    check_plot()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    panel = figure.subplots()
    panel.plot([s.seconds for s in samples], [s.rss / 1e6 for s in samples])
    panel.set(xlabel="seconds", ylabel="resident memory, MB", ylim=(0, None))
    panel.set_title(f"{samples[-1].prompts:,} prompts")
    panel.grid(alpha=0.3)
    figure.savefig(path)


def residuals(runs: Sequence[Run], path: Path) -> None:
    """Write residual against step, one panel for each context size.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    check_plot()
    from matplotlib.figure import Figure

    contexts = sorted({run.context for run in runs})
    figure = Figure(figsize=(4 * len(contexts), 4), layout="constrained")
    panels = figure.subplots(1, len(contexts), sharey=True, squeeze=False)[0]
    for panel, context in zip(panels, contexts, strict=True):
        for run in runs:
            if run.context == context and run.iterations:
                name = run.solver if run.rate is None else f"{run.solver}, rate {run.rate:g}"
                panel.plot(run.residuals, marker=".", markersize=3, label=name)
        panel.axhline(1e-4, color="grey", linestyle="--", linewidth=1)
        panel.set(title=f"{context:,} tokens", xlabel="step", xscale="symlog", yscale="log")
        panel.set_ylim(1e-6, 10)
    panels[0].set_ylabel("relative residual")
    panels[-1].legend(fontsize="small")
    figure.savefig(path)
