"""One set of figures as a table for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pcompiler.alerts import raised
from pcompiler.bench.harness import Figure
from pcompiler.memory import limit_bytes
from pcompiler.table import nbytes, render, seconds

if TYPE_CHECKING:
    from pcompiler.bench.runs import Run


def as_json(run: Run) -> dict[str, Any]:
    """The stable form, which ``archive.read`` takes back; later suites only add figures."""
    fields = asdict(run)
    for made, part in zip(fields["parts"], run.parts, strict=True):
        made |= {"drift": part.drift, "drifted": part.drifted}
    heeded = [
        {"alert": r.alert.name, "suite": r.suite, "figure": r.figure, "value": r.value}
        for r in raised(run.figures, limit_bytes())
    ]
    return {"schema": fields.pop("schema"), **fields, "alerts": heeded}


def alerts(run: Run) -> str:
    """A line for each figure beyond a limit that the server's alerts have as well; else nothing."""
    return "".join(f"\nalert: {found}." for found in raised(run.figures, limit_bytes()))


def noise(run: Run) -> str:
    """A line for each suite during which the machine's speed changed too much; else nothing."""
    return "".join(
        f"\n{part.suite}: the machine drifted by {100 * part.drift:.0f} % while it ran (fixed "
        f"work: {seconds(part.before.median('wall'))} before, {seconds(part.after.median('wall'))} "
        "after); take its times with care."
        for part in run.parts
        if part.drifted
    )


def as_table(figures: Sequence[Figure]) -> str:
    """The figures, and how each stands beside its reference and its baseline."""
    columns = ("figure", "ours", "± spread", "cpu", "baseline", "reference", "reached")
    missed = [f for f in figures if f.note and "no" in (reached(f), goal_reached(f))]
    notes = [f"\n{figure.name}: {figure.note}" for figure in missed]
    return render(columns, [_row(figure) for figure in figures]) + "".join(notes)


def _row(figure: Figure) -> tuple[str, ...]:
    def shown(value: float | None) -> str:
        return "–" if value is None else shown_value(value, figure.unit)

    return (
        f"{figure.suite}: {figure.name}" + (f" ({figure.by})" if figure.by else ""),
        shown(figure.value),
        shown(figure.spread),
        seconds(figure.cpu_s),
        shown(figure.baseline),
        "; ".join(_aims(figure)) or "–",
        "; ".join(_outcomes(figure)),
    )


def _aims(figure: Figure) -> Iterator[str]:
    if figure.reference is not None:
        yield shown_value(figure.reference, figure.unit)
    if figure.goal is not None:
        yield f"goal {shown_value(figure.goal, figure.unit)}"


def _outcomes(figure: Figure) -> Iterator[str]:
    if reference := reached(figure):
        yield reference
    if goal := goal_reached(figure):
        yield f"goal {goal}"


def reached(figure: Figure) -> str:
    """Whether the published reference was: yes, no, or nothing where there is none."""
    return _at_least(figure, figure.reference)


def goal_reached(figure: Figure) -> str:
    """The same of the goal."""
    return _at_least(figure, figure.goal)


def _at_least(figure: Figure, aim: float | None) -> str:
    if aim is None:
        return ""
    sign = 1 if figure.better == "higher" else -1
    return "yes" if sign * (figure.value - aim) >= 0 else "no"


def shown_value(value: float, unit: str) -> str:
    """A number with its unit, as people write it."""
    if unit == "s":
        return seconds(value)
    return nbytes(value) if unit == "bytes" else f"{value:.4g} {unit}"
