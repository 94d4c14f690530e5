"""The page of a run, and the list of all pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from pcompiler.bench import ROOT
from pcompiler.bench.calibration import DRIFT_LIMIT
from pcompiler.bench.history import History, Kept, machine, plain
from pcompiler.bench.html.convergence import Study, study
from pcompiler.bench.html.latency import Latencies, latencies
from pcompiler.bench.html.quantity import number, quantity, ratio
from pcompiler.bench.html.scores import Score, Suite, strongest, suites, weakest
from pcompiler.bench.html.studies import Ladder, fidelity, results, semantic
from pcompiler.bench.html.trend import Trends, day, trends
from pcompiler.bench.runs import Run

RESULTS = ROOT / "benches" / "results"


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        run: the reported one.
        name: that it is kept under.
        history: kept runs.
        results: folder with the studies' results.
    """

    run: Run
    name: str
    history: History
    results: Path = RESULTS

    @cached_property
    def suites(self) -> tuple[Suite, ...]:
        """The run by suite."""
        return suites(self.run)

    @property
    def met(self) -> tuple[Score, ...]:
        """Figures that reach the reference."""
        return tuple(score for suite in self.suites for score in suite.met)

    @property
    def missed(self) -> tuple[Score, ...]:
        """Figures that do not."""
        return tuple(score for suite in self.suites for score in suite.missed)

    @property
    def strongest(self) -> tuple[Score, ...]:
        """For the first screen."""
        return strongest(self.suites)

    @property
    def weakest(self) -> tuple[Score, ...]:
        """The misses that the first screen explains; the others are explained below it."""
        return weakest(self.suites)

    @property
    def noise(self) -> str:
        """What may be wrong with the times."""
        drifted = [
            f"{suite.title} ({100 * part.drift:.0f} %)"
            for suite in self.suites
            if (part := suite.part).drifted
        ]
        if not drifted:
            limit = f"{100 * DRIFT_LIMIT:.0f} %"
            return f"steady: no suite saw the machine's speed change by more than {limit}"
        return (
            f"the machine's speed changed while these ran: {', '.join(drifted)}; "
            "take their times with care"
        )

    @property
    def convergence(self) -> list[Study]:
        """Kept convergence studies."""
        return [study(data) for data in results(self.results / "convergence")]

    @property
    def fidelity(self) -> Ladder | None:
        """The ladder of artifacts."""
        return fidelity(results(self.results / "ladder"))

    @property
    def semantic(self) -> Ladder | None:
        """The ladder of shorter texts."""
        return semantic(results(self.results / "semantic"))

    @property
    def latencies(self) -> Latencies | None:
        """Of single calls."""
        return latencies(self.run.figures)

    @property
    def trends(self) -> Trends:
        """The run among those of the same setup."""
        return trends(self.run, self.name, self.history)


@dataclass(frozen=True)
class Entry:
    """A kept run in the list of pages."""

    kept: Kept
    page: str | None

    @property
    def met(self) -> int:
        """Figures that reach the reference."""
        return sum(len(suite.met) for suite in suites(self.kept.run))

    @property
    def compared(self) -> int:
        """Figures that have one."""
        return sum(len(suite.compared) for suite in suites(self.kept.run))


def html(report: Report) -> str:
    """The page: one file that loads nothing."""
    return _environment().get_template("report.html").render(report=report, run=report.run)


def index(history: History, folder: Path) -> str:
    """The list of kept runs, newest full one first, each with its page where there is one."""
    entries = [Entry(kept, _page(kept, folder)) for kept in reversed(history.kept)]
    entries.sort(key=lambda entry: entry.kept.run.quick)
    return _environment().get_template("index.html").render(entries=entries)


def _page(kept: Kept, folder: Path) -> str | None:
    return f"{kept.name}.html" if (folder / f"{kept.name}.html").is_file() else None


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pcompiler.bench.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown: dict[str, Any] = {
        "quantity": quantity,
        "number": number,
        "ratio": ratio,
        "day": day,
        "machine": machine,
        "plain": plain,
    }
    made.filters.update(shown | {"plural": _plural})
    return made


def _plural(items: Sequence[object] | int, word: str, several: str | None = None) -> str:
    count = items if isinstance(items, int) else len(items)
    return f"{count:,} {word if count == 1 else several or word + 's'}"
