"""What ``--target auto`` tried: size against fidelity, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pcompiler.errors import ConfigError
from pcompiler.table import nbytes, percent, render

if TYPE_CHECKING:
    from pcompiler.pipeline import Compiled
    from pcompiler.search import Trial


def table(trials: Sequence[Trial], chosen: Compiled) -> str:
    """One row for each artifact that was built; the chosen one is marked."""
    rows = [
        (
            trial.name,
            nbytes(trial.size_bytes),
            f"{trial.fidelity.kl:.3g}",
            percent(trial.fidelity.agreement),
            _verdict(trial, chosen),
        )
        for trial in trials
    ]
    return render(("tried", "size", "KL (nats/token)", "agreement", ""), rows)


def _verdict(trial: Trial, chosen: Compiled) -> str:
    if not trial.met:
        return "misses the gate"
    return "chosen" if trial.size_bytes == chosen.header.body_bytes else "meets it"


def check() -> None:
    """Before anything slow runs.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError(
            "--plot needs matplotlib, which is not installed; "
            "install it with: pip install 'pcompiler[bench]'"
        ) from None


def picture(trials: Sequence[Trial], chosen: Compiled, path: Path) -> None:
    """KL against bytes, both logarithmic; the dashed line is the model without the prompt."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    sizes = [trial.size_bytes / 1e6 for trial in trials]
    kls = [max(trial.fidelity.kl, 1e-9) for trial in trials]
    axes.plot(sizes, kls, color="tab:blue", linewidth=1)
    for trial, size, kl in zip(trials, sizes, kls, strict=True):
        best = trial.size_bytes == chosen.header.body_bytes
        axes.plot(size, kl, "o", color="tab:green" if best else "tab:blue")
        label = f"{trial.name}\n{percent(trial.fidelity.agreement)}"
        axes.annotate(label, (size, kl), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.axhline(chosen.fidelity.kl_no_prompt, color="grey", linestyle="--", label="no prompt")
    axes.set(xscale="log", yscale="log", xlabel="artifact, MB", ylabel="KL, nats per answer token")
    axes.legend()
    figure.savefig(path)
