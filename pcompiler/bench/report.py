"""One set of figures as a table for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pcompiler.bench.harness import Figure, commit
from pcompiler.device import Device
from pcompiler.table import nbytes, render, seconds

SCHEMA = 1


def as_json(
    figures: Sequence[Figure], device: Device, hardware: str, started: str
) -> dict[str, Any]:
    """The stable form; later suites only add figures."""
    return {
        "schema": SCHEMA,
        "device": str(device.handle),
        "hardware": hardware,
        "commit": commit(),
        "started": started,
        "figures": [_fields(figure) for figure in figures],
    }


def as_table(figures: Sequence[Figure]) -> str:
    """The figures, and how each stands beside its reference and its baseline."""
    columns = ("figure", "ours", "± spread", "cpu", "baseline", "reference", "reached")
    missed = [f for f in figures if f.note and _reached(f) == "no"]
    notes = [f"\n{figure.name}: {figure.note}" for figure in missed]
    return render(columns, [_row(figure) for figure in figures]) + "".join(notes)


def _fields(figure: Figure) -> dict[str, Any]:
    fields = asdict(figure)
    del fields["note"]  # for people; the schema is fixed
    return fields


def _row(figure: Figure) -> tuple[str, ...]:
    def shown(value: float | None) -> str:
        return "–" if value is None else _value(value, figure.unit)

    return (
        f"{figure.suite}: {figure.name}",
        shown(figure.value),
        shown(figure.spread),
        seconds(figure.cpu_s),
        shown(figure.baseline),
        shown(figure.reference),
        _reached(figure),
    )


def _reached(figure: Figure) -> str:
    if figure.reference is None:
        return ""
    sign = 1 if figure.better == "higher" else -1
    return "yes" if sign * (figure.value - figure.reference) >= 0 else "no"


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return seconds(value)
    return nbytes(value) if unit == "bytes" else f"{value:.4g} {unit}"
