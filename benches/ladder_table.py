"""The ladder's rows as tables: means over contexts, and by kind of prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean
from typing import Any

from pcompiler.table import nbytes, percent, render

Row = dict[str, Any]
FULL_RANK = 10_000
COLUMNS = (
    *("method", "KL mean", "KL worst", "agreement", "worst", "uncovered", "recovered"),
    *("bytes", "n"),
)


def table(contexts: Sequence[Row]) -> str:
    """Mean and worst over contexts for each method, then agreement by kind."""
    groups: dict[tuple[Any, ...], list[tuple[Row, Row]]] = defaultdict(list)
    for context in contexts:
        for row in context["rows"]:
            groups[_key(row)].append((context, row))
    lines = [_line(key, pairs) for key, pairs in sorted(groups.items(), key=lambda g: str(g[0]))]
    return render(COLUMNS, lines) + "\n\n" + _by_kind(groups)


def _key(row: Row) -> tuple[Any, ...]:
    return row["method"], row.get("factor") or 0, row.get("rank") or 0, row.get("bits") or 16


def _name(key: tuple[Any, ...]) -> str:
    method, factor, rank, bits = key
    parts = [str(method)]
    parts += [f"{factor:g}×"] if factor else []
    parts += ["full rank" if rank > FULL_RANK else f"rank {rank}"] if rank else []
    parts += ["8 bit"] if bits == 8 else []
    return " ".join(parts)


def _line(key: tuple[Any, ...], pairs: Sequence[tuple[Row, Row]]) -> tuple[str, ...]:
    rows = [row for _, row in pairs]
    recovered = [1 - row["kl"] / _no_prompt(context)["kl"] for context, row in pairs]
    sizes = [row["bytes"] for row in rows if "bytes" in row]
    return (
        _name(key),
        f"{mean(row['kl'] for row in rows):.4f}",
        f"{max(row['kl'] for row in rows):.4f}",
        percent(mean(row["agreement"] for row in rows)),
        percent(min(row["agreement"] for row in rows)),
        _apart([row for row in rows if "agreement_uncovered" in row]),
        percent(mean(recovered)),
        nbytes(mean(sizes)) if sizes else "–",
        str(len(rows)),
    )


def _apart(rows: Sequence[Row]) -> str:
    """Agreement on uncovered facts, and how it differs from covered ones on the same prompts."""
    if not rows:
        return "–"
    uncovered = mean(row["agreement_uncovered"] for row in rows)
    less = uncovered - mean(row["agreement"] for row in rows)
    return f"{percent(uncovered)} ({100 * less:+.1f})"


def _no_prompt(context: Row) -> Row:
    found: Row = next(row for row in context["rows"] if row["method"] == "no prompt")
    return found


def _by_kind(groups: dict[tuple[Any, ...], list[tuple[Row, Row]]]) -> str:
    kinds = sorted({context["kind"] for pairs in groups.values() for context, _ in pairs})
    lines = []
    for key, pairs in sorted(groups.items(), key=lambda g: str(g[0])):
        cells = [_name(key)]
        for kind in kinds:
            rows = [row for context, row in pairs if context["kind"] == kind]
            cells.append(
                f"{mean(r['kl'] for r in rows):.3f} / {percent(mean(r['agreement'] for r in rows))}"
                if rows
                else "–"
            )
        lines.append(tuple(cells))
    return render(("KL / agreement", *kinds), lines)
