"""The semantic ladder's rows as tables: of each kind of prompt, means over its contexts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from pcompiler.table import percent, render, seconds

Row = dict[str, Any]
COLUMNS = (
    *("method", "rate", "met", "KL", "agreement", "exact match", "contains", "F1"),
    *("seconds", "CPU over prefill", "n"),
)


def table(contexts: Sequence[Row]) -> str:
    """One table a kind; failures are counted, and not in the means."""
    kinds = dict.fromkeys(context["kind"] for context in contexts)
    parts = []
    for kind in kinds:
        found = [context for context in contexts if context["kind"] == kind]
        title = f"{kind}: {len(found)} prompt{'s' if len(found) > 1 else ''}"
        parts.append(f"{title}\n\n{render(COLUMNS, list(_lines(found)))}")
    return "\n\n".join(parts)


def _lines(contexts: Sequence[Row]) -> Iterable[tuple[str, ...]]:
    groups: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for context in contexts:
        whole = next(row for row in context["rows"] if row["method"] == "full prompt")
        for row in context["rows"]:
            over = {"over": row["cpu_s"] / whole["cpu_s"]} if "cpu_s" in row else {}
            groups[row["method"], row.get("rate", 1.0)].append(row | over)
    for (method, rate), rows in groups.items():
        asked = f"{rate:.2f}" if "rate" in rows[0] else "–"
        yield method, asked, *_means([row for row in rows if "error" not in row]), _count(rows)


def _means(rows: Sequence[Row]) -> Iterable[str]:
    """Every column's mean over the rows that have it."""
    shown = {
        "rate_met": "{:.3f}".format,
        "kl": "{:.4f}".format,
        **dict.fromkeys(("agreement", "exact_match", "contains", "f1"), percent),
        "seconds": seconds,
        "over": "{:.2f}×".format,
    }
    for name, show in shown.items():
        values = [row[name] for row in rows if name in row]
        yield show(mean(values)) if values else "–"


def _count(rows: Sequence[Row]) -> str:
    failed = sum("error" in row for row in rows)
    return f"{len(rows) - failed}" + (f" ({failed} failed)" if failed else "")
