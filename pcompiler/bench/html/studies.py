"""Kept results of the studies as plots: convergence, fidelity against bytes, fewer tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from pcompiler.bench.html.axis import Axis, around
from pcompiler.bench.html.plot import Mark, Plot, Rule, Series
from pcompiler.bench.html.quantity import number, quantity
from pcompiler.errors import InputError

Row = Mapping[str, Any]
FULL_RANK = 10_000
SAME_SIZE = 1.05
PEERS = {"kvpress snapkv": "SnapKV", "kvpress expected_attention": "Expected Attention"}
# Name in the results → in the legend, colour, shape.
KINDS = {
    "matching": ("Compact cache", 1, "circle"),
    "matching per head": ("Compact cache, same size in every head", 5, "triangle"),
    "hybrid": ("Cache and weights", 2, "diamond"),
    "weights": ("Weights alone", 3, "square"),
}
SHORTER = {
    "ours": ("Ours", 1, "circle"),
    "ours with queries": ("Ours, told what users ask", 5, "triangle"),
    "ours without a model": ("Ours, no model", 2, "diamond"),
    "llmlingua": ("LLMLingua 0.2.2", 3, "square"),
    "head": ("Head: the beginning alone", 0, "circle"),
}


@dataclass(frozen=True)
class Ladder:
    """A plot of means over prompts, and how many prompts that are."""

    plot: Plot
    prompts: int


def results(folder: Path) -> list[dict[str, Any]]:
    """The JSON objects of a folder's files; none where there is no such folder.

    Raises:
        InputError: a file is not JSON.
    """
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as e:
        raise InputError(f"{path}: it is not a JSON object: {e}.") from e


def fidelity(contexts: Sequence[Row]) -> Ladder | None:
    """Mean KL against mean bytes, by kind of artifact; none without results.

    Only what was measured on every prompt: means over different prompts do not compare.
    """
    groups = _means(
        contexts, lambda r: (r["method"], r.get("rank"), r.get("factor"), r.get("bits"))
    )
    drawn = tuple(_artifacts(groups))
    if not drawn:
        return None
    drawn = (_frontier(drawn), *drawn)
    rules = tuple(_levels(groups))
    marks = [mark for series in drawn for mark in series.marks]
    levels = [*(mark.y for mark in marks), *(rule.y for rule in rules)]
    x = around([m.x for m in marks], lambda v: quantity(v, "bytes"), "bytes on disk")
    y = around(levels, number, "KL, nats a token", most=9)
    plot = Plot("Distance from the full prompt against size", x, y, drawn, rules, 400)
    return Ladder(plot, len(contexts))


def _levels(groups: Mapping[Any, Row]) -> Iterator[Rule]:
    for (method, _, factor, _), row in groups.items():
        shown = number(row["kl"])
        if method == "no prompt":
            yield Rule(f"No prompt at all: {shown}", row["kl"])
        elif method in PEERS:
            yield Rule(f"{PEERS[method]}, 1/{factor:g} of the tokens: {shown}", row["kl"], 3)


def _frontier(drawn: Sequence[Series]) -> Series:
    """What nothing of about its size comes closer than."""
    marks = sorted((m for series in drawn for m in series.marks), key=lambda mark: mark.x)
    best = [m for m in marks if all(m.y <= o.y for o in marks if o.x <= m.x * SAME_SIZE)]
    return Series("Frontier: nothing of this size is closer", tuple(best), 6, "", wide=True)


def _artifacts(groups: Mapping[Any, Row]) -> Iterator[Series]:
    for method, (name, colour, shape) in KINDS.items():
        by_rank: dict[Any, list[Mark]] = {}
        for (kind, rank, factor, bits), row in groups.items():
            if kind == method and bits != 8 and row["kl"] > 0:
                line = rank if method == "hybrid" else None
                by_rank.setdefault(line, []).append(_artifact(row, rank, factor, method))
        for rank, marks in by_rank.items():
            title = f"{name}, rank {rank}" if rank else name
            ordered = tuple(sorted(marks, key=lambda mark: mark.x))
            line = len(ordered) > 1
            yield Series(title, ordered, colour if line or method != "hybrid" else 4, shape, line)


def _artifact(row: Row, rank: int, factor: float | None, method: str) -> Mark:
    size, kl = quantity(row["bytes"], "bytes"), number(row["kl"])
    what = f"1/{factor:g}" if factor else ("full rank" if rank > FULL_RANK else f"rank {rank}")
    label = what if method in ("matching", "weights") else ""
    return Mark(row["bytes"], row["kl"], f"{what}: {size}, KL {kl}", label)


def semantic(contexts: Sequence[Row]) -> Ladder | None:
    """Mean KL against the share of tokens kept, by method; none without results."""
    groups = _means(contexts, lambda row: (row["method"], row.get("rate")))
    drawn = []
    for method, (name, colour, shape) in SHORTER.items():
        rows = [row for (kind, _), row in groups.items() if kind == method and row["kl"] > 0]
        marks = tuple(
            Mark(
                100 * r["rate_met"], r["kl"], f"{name}: {r['rate_met']:.0%} kept, KL {r['kl']:.3g}"
            )
            for r in sorted(rows, key=lambda row: float(row["rate_met"]))
        )
        if marks:
            drawn.append(Series(name, marks, colour, shape, dashed=method == "head"))
    if not drawn:
        return None
    none = groups.get(("no prompt", None))
    rules = (Rule(f"No prompt at all: {number(none['kl'])}", none["kl"]),) if none else ()
    levels = [m.y for series in drawn for m in series.marks] + [rule.y for rule in rules]
    x = Axis(0, 100, lambda v: quantity(v, "%"), log=False, title="tokens kept")
    y = around(levels, number, "KL, nats a token", most=9)
    return Ladder(Plot("Distance from the full prompt against length", x, y, tuple(drawn), rules),
                  len(contexts))  # fmt: skip


def _means(contexts: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, dict[str, float]]:
    groups: dict[Any, list[Row]] = {}
    for context in contexts:
        for row in context["rows"]:
            if "kl" in row and "error" not in row:
                groups.setdefault(key(row), []).append(row)
    columns = ("kl", "bytes", "rate_met")
    return {
        name: {c: mean(row[c] for row in rows) for c in columns if all(c in row for row in rows)}
        for name, rows in groups.items()
        if len(rows) == len(contexts)
    }
