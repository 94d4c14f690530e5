"""A saved run as a page: each suite's figures beside the reference, reached or missed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pcompiler.bench.harness import Figure
from pcompiler.bench.report import alerts, noise, reached, shown_value
from pcompiler.bench.runs import Part, Run
from pcompiler.table import seconds

HEAD = ("figure", "ours", "reference", "reached", "baseline of the same run")


def page(run: Run) -> str:
    """The whole page: where it was measured, the outcome, then a section for each suite."""
    sections = ["\n".join(_section(run, part)) for part in run.parts]
    return "\n\n".join(["\n".join(_head(run)), *sections]) + "\n"


def _head(run: Run) -> Iterator[str]:
    yield "# Benchmarks beside the reference"
    yield ""
    yield f"- measured: {run.started}, {'quick' if run.quick else 'full'}, {seconds(run.seconds)}"
    yield f"- version: {run.version}, commit {run.commit or 'unknown'}"
    yield f"- machine: {run.hardware}"
    yield f"- {_outcome(run.figures)}"
    yield from (f"- {line}" for line in (noise(run) + alerts(run)).splitlines() if line)


def _section(run: Run, part: Part) -> Iterator[str]:
    figures = [figure for figure in run.figures if figure.suite == part.suite]
    missed = [figure for figure in figures if reached(figure) == "no"]
    yield f"## {part.suite}"
    yield ""
    yield f"{_outcome(figures)} It took {seconds(part.seconds)}."
    yield ""
    yield _line(HEAD)
    yield "|---|--:|--:|---|--:|"
    yield from (_line(_cells(figure)) for figure in figures)
    if missed:
        yield ""
        yield "Missed:"
        yield ""
        yield from (f"- {f.name}: {f.note or 'no reason is known.'}" for f in missed)


def _outcome(figures: Sequence[Figure]) -> str:
    with_reference = [reached(figure) for figure in figures if figure.reference is not None]
    return f"{with_reference.count('yes')} of {len(with_reference)} reference figures reached."


def _cells(figure: Figure) -> tuple[str, ...]:
    def shown(value: float | None) -> str:
        return "" if value is None else shown_value(value, figure.unit)

    outcome = {"yes": "reached", "no": "**missed**", "": ""}[reached(figure)]
    ours = shown(figure.value) + (f" ± {shown(figure.spread)}" if figure.spread else "")
    return figure.name, ours, shown(figure.reference), outcome, shown(figure.baseline)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
