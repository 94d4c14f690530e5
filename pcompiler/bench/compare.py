"""Two or more runs, figure by figure: what got better or worse beyond the noise of measuring.

The last run is judged by those before it. Worse means both: by more than 10 % in the middle, and
no less than 5 % in the 95 % interval of the ratio. A time is not worse where its baseline of the
same run, if it has one, got as much slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import numpy as np

from pcompiler.bench import bootstrap
from pcompiler.bench.harness import Figure
from pcompiler.bench.report import shown_value
from pcompiler.bench.runs import Run, labels
from pcompiler.errors import InputError
from pcompiler.table import render

LIMIT, SURE = 1.10, 1.05  # ratio in the middle, and at the near end of the interval
CONFIRMATIONS = 2  # how often what seems worse is measured anew
FLOORS = {"nats/token": 1e-3, "%": 0.5, "% more": 0.5}  # smaller differences matter to nobody
COLUMNS = ("figure", "before", "after", "ratio", "95 % interval", "verdict")
Verdict = Literal["better", "same", "worse", "missing", "new"]


@dataclass(frozen=True)
class Row:
    """One figure in both.

    Attributes:
        figure: its label.
        unit: of before and after.
        better: which direction is good.
        before: median of the runs before, as measured; none: new.
        after: as measured; none: missing.
        ratio: after / before on a machine that did not change; none where that means nothing.
        low: of the ratio's 95 % interval.
        high: of the same.
        verdict: of the last run.
    """

    figure: str
    unit: str
    better: Literal["higher", "lower"]
    before: float | None
    after: float | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict

    @property
    def suite(self) -> str:
        """Which suite it is of."""
        return self.figure.partition(":")[0]


@dataclass(frozen=True)
class Comparison:
    """All figures of the suites that the runs share.

    Attributes:
        rows: in the last run's order, then those it misses.
        notes: what else differs between the runs, in sentences.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Row, ...]:
        """What got worse."""
        return tuple(row for row in self.rows if row.verdict == "worse")


def compare(runs: Sequence[Run]) -> Comparison:
    """Judge the last of two or more runs by those before it.

    Raises:
        InputError: fewer than two, quick ones beside full ones, or no suite in common.
    """
    if len(runs) < 2:
        raise InputError(f"{len(runs)} run: a comparison takes two or more.")
    if len({run.quick for run in runs}) > 1:
        raise InputError("a quick run and a full one do different work; compare like with like.")
    shared = set.intersection(*({part.suite for part in run.parts} for run in runs))
    if not shared:
        raise InputError("the runs have no suite in common; measure the same ones.")
    *older, last = runs
    before = [_of(run, shared) for run in older]
    after = _of(last, shared)
    names = dict.fromkeys([*after, *(name for figures in before for name in figures)])
    rows = []
    for name in names:
        sides = [(f[name], run) for f, run in zip(before, older, strict=True) if name in f]
        rows.append(_row(name, sides, after.get(name), last))
    return Comparison(tuple(rows), tuple(_notes(older, last, shared)))


def confirm(
    older: Sequence[Run], found: Comparison, again: Callable[[Sequence[str]], Run]
) -> Comparison:
    """Measure suites that got worse anew: a burst of other work slows a run, not each of three.

    Args:
        older: the runs that ``found`` was judged by.
        found: the first comparison.
        again: measures these suites.

    Returns:
        ``found``, where worse is what was worse each time; other figures are as last measured.
    """
    for _ in range(CONFIRMATIONS):
        if not found.regressions:
            break
        run = again(sorted({row.suite for row in found.regressions}))
        anew = {row.figure: row for row in compare([*older, run]).rows}
        rows = (anew.get(r.figure, r) if r.verdict == "worse" else r for r in found.rows)
        note = f"measured once more, because something was worse: {', '.join(_suites(run))}."
        found = Comparison(tuple(rows), (*found.notes, note))
    return found


def as_table(found: Comparison) -> str:
    """For people: every figure, then what differs besides, then the outcome."""
    cells = [(_short(row.figure), *_cells(row)[1:]) for row in found.rows]
    return "\n".join([render(COLUMNS, cells), "", *found.notes, summary(found)])


def as_markdown(found: Comparison) -> str:
    """What changed as a table for a page, and the outcome; unchanged figures are folded."""
    changed = [row for row in found.rows if row.verdict != "same"]
    same = [row for row in found.rows if row.verdict == "same"]
    folded = ["<details><summary>unchanged</summary>", "", *_lines(same), "", "</details>"]
    parts = [summary(found), "", *_lines(changed), *([""] if changed else []), *folded, ""]
    return "\n".join([*parts, *(f"- {note}" for note in found.notes)]) + "\n"


def as_json(found: Comparison) -> dict[str, Any]:
    """For machines; the names of what got worse apart."""
    names = [row.figure for row in found.regressions]
    return {"schema": 1, "regressions": names, **asdict(found)}


def summary(found: Comparison) -> str:
    """The outcome in a sentence, with the names of what got worse."""
    counts = [
        f"{sum(row.verdict == verdict for row in found.rows)} {verdict}"
        for verdict in ("better", "same", "worse", "missing", "new")
        if verdict in ("better", "same", "worse") or any(r.verdict == verdict for r in found.rows)
    ]
    named = "".join(f"\nregression: {row.figure}: {_ratio(row)}" for row in found.regressions)
    return f"{len(found.rows)} figures: {', '.join(counts)}.{named}"


def _suites(run: Run) -> list[str]:
    return sorted(part.suite for part in run.parts)


def _of(run: Run, suites: set[str]) -> dict[str, Figure]:
    return {name: f for name, f in labels(run.figures).items() if f.suite in suites}


def _row(name: str, sides: Sequence[tuple[Figure, Run]], after: Figure | None, last: Run) -> Row:
    one = after or sides[0][0]
    before = median(f.value for f, _ in sides) if sides else None
    if after is None or before is None:
        verdict: Verdict = "missing" if after is None else "new"
        value = after.value if after else None
        return Row(name, one.unit, one.better, before, value, None, None, None, verdict)
    if after.unit != sides[0][0].unit:
        raise InputError(f"{name}: {sides[0][0].unit} before, {after.unit} now; measure both anew.")
    if before <= 0 or after.value <= 0:
        verdict = _signed(before, after)
        return Row(name, one.unit, one.better, before, after.value, None, None, None, verdict)
    ratio, low, high = _interval(name, sides, after, last)
    verdict = "same" if _tiny(before, after) else _judge(after.better, ratio, low, high)
    if verdict == "worse" and _slowed_alike([f for f, _ in sides], after):
        verdict = "same"
    return Row(name, one.unit, one.better, before, after.value, ratio, low, high, verdict)


def _interval(
    name: str, sides: Sequence[tuple[Figure, Run]], after: Figure, last: Run
) -> tuple[float, float, float]:
    """Ratio and its interval; times by the machine's speed, where both ran on the host."""
    scaled = _on_host([last, *(run for _, run in sides)])
    older = [(figure, run.part(figure.suite)) for figure, run in sides]
    part = last.part(after.suite)
    middle = median(f.value / (bootstrap.machine(p, f.unit) if scaled else 1) for f, p in older)
    ratio = after.value / (bootstrap.machine(part, after.unit) if scaled else 1) / middle
    new = bootstrap.draws(f"{name}, after", [(after, part)], scaled)
    old = bootstrap.draws(f"{name}, before", older, scaled)
    good = (old > 0) & (new > 0)  # a wide spread may reach below nothing
    low, high = np.quantile(new[good] / old[good], [0.025, 0.975])
    return ratio, float(low), float(high)


def _judge(better: str, ratio: float, low: float, high: float) -> Verdict:
    if better == "higher":
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    if ratio > LIMIT and low > SURE:
        return "worse"
    return "better" if ratio < 1 / LIMIT and high < 1 / SURE else "same"


def _slowed_alike(older: Sequence[Figure], after: Figure) -> bool:
    """Whether a time's baseline, measured in turn with it, got as much slower: the machine did."""
    beside = [f.value / f.baseline for f in older if f.baseline]
    if bootstrap.clock(after.unit) is None or not after.baseline or not beside:
        return False
    ratio = after.value / after.baseline / median(beside)
    return (ratio if after.better == "lower" else 1 / ratio) <= SURE


def _tiny(before: float, after: Figure) -> bool:
    return abs(after.value - before) <= FLOORS.get(after.unit, 0.0)


def _signed(before: float, after: Figure) -> Verdict:
    """Of figures that have no ratio: nothing, or below it."""
    change = after.value - before if after.better == "lower" else before - after.value
    limit = max(FLOORS.get(after.unit, 0.0), (LIMIT - 1) * max(abs(before), abs(after.value)))
    return "same" if abs(change) <= limit else "worse" if change > 0 else "better"


def _notes(older: Sequence[Run], last: Run, shared: set[str]) -> Iterator[str]:
    for number, run in enumerate(older, 1):
        which = "before" if len(older) == 1 else f"before, {number}"
        for what in ("hardware", "device", "threads", "version"):
            old, new = getattr(run, what), getattr(last, what)
            if old != new:
                yield f"{what} differs: {old} ({which}), {new} (after)."
        for suite in sorted(shared):
            old, new = (bootstrap.machine(r.part(suite), "s") for r in (run, last))
            used = "times are divided by it" if _on_host([run, last]) else "times are as measured"
            yield f"{suite}: the fixed work took {new / old:.2f} × its time {which}; {used}."
    for run in (*older, last):
        yield from (
            f"{part.suite}: the machine drifted by {100 * part.drift:.0f} % during the run of "
            f"{run.started}; take its times with care."
            for part in run.parts
            if part.suite in shared and part.drifted
        )
    if skipped := sorted({p.suite for run in (*older, last) for p in run.parts} - shared):
        yield f"not in every run, and not compared: {', '.join(skipped)}."


def _on_host(runs: Sequence[Run]) -> bool:
    """Whether the fixed work, which runs on the host, tells how fast their machine was."""
    return all(run.device == "cpu" for run in runs)


def _cells(row: Row) -> tuple[str, ...]:
    def shown(value: float | None) -> str:
        return "–" if value is None else shown_value(value, row.unit)

    low, high = row.low, row.high
    interval = "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return row.figure, shown(row.before), shown(row.after), _ratio(row), interval, row.verdict


def _short(figure: str) -> str:
    """A label below the figure that it goes on from."""
    _, goes_on, name = figure.rpartition(" … ")
    return f"… {name}" if goes_on else figure


def _ratio(row: Row) -> str:
    return "–" if row.ratio is None else f"{row.ratio:.3f} ×"


def _lines(rows: Sequence[Row]) -> list[str]:
    """A Markdown table."""
    if not rows:
        return []
    cells = (tuple(cell.replace("|", "\\|") for cell in _cells(row)) for row in rows)
    head = [f"| {' | '.join(COLUMNS)} |", "|---|--:|--:|--:|--:|---|"]
    return [*head, *(f"| {' | '.join(cell)} |" for cell in cells)]
