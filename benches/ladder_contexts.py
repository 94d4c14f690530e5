"""The fidelity ladder's prompts: what is compiled, what may be fitted on, what is measured.

The three sets of queries are disjoint. ``held_out`` asks about the same parts of the prompt as
``fit``, in other words or for other details. ``uncovered`` asks about parts that no fit query
touches: what an artifact does there is what it does for the query that nobody foresaw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pcompiler.frontend import read_source
from pcompiler.queries import read_queries

EXAMPLES = Path(__file__).parents[1] / "examples" / "ladder"


@dataclass(frozen=True)
class LadderContext:
    """One prompt of the ladder.

    Attributes:
        name: unique.
        kind: squad, role, few-shot, look-up or support.
        source: what ``pcompiler.frontend.parse`` takes.
        fit: queries that may be used for fitting.
        held_out: queries to measure on; never fitted.
        uncovered: queries to measure on, about parts that no ``fit`` query asks about; empty
            where a prompt has no such parts.
        gold: of those queries whose right answers the data set tells, the answers.
    """

    name: str
    kind: str
    source: str
    fit: tuple[str, ...]
    held_out: tuple[str, ...]
    uncovered: tuple[str, ...] = ()
    gold: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False, kw_only=True)


def contexts(data: Path | None) -> list[LadderContext]:
    """All contexts, the same on every call.

    Args:
        data: folder of public data sets (see ``ladder_data``) that eleven more contexts are
            made from; None for those that come with the project.

    Raises:
        InputError, OSError: an example or a data file cannot be read.
        ValueError: a file lacks what is taken from it.
    """
    made = [example(path) for path in sorted(EXAMPLES.glob("*.context.json"))]
    if data is not None:
        from benches import ladder_data  # here, because it makes LadderContexts itself

        made += ladder_data.contexts(data)
    return made


def example(path: Path) -> LadderContext:
    """The context that a JSON file describes; ``held_out`` is what is measured and not uncovered.

    Support desk: the 40 queries that have always come with it are all measured, and the 30 to
    fit on were written apart from them, so that figures stay comparable with ``pcompiler bench``.
    ``uncovered`` was decided by reading: the queries whose sentence or table row in the handbook
    no fit query asks about.

    Raises:
        InputError: the prompt or the query file cannot be read.
        ValueError: an uncovered query is not in the query file.
    """
    spec = json.loads(path.read_text(encoding="utf-8"))
    measured = [probe.query for probe in read_queries(path.parent / spec["queries"])]
    uncovered = tuple(spec["uncovered"])
    if unknown := set(uncovered) - set(measured):
        raise ValueError(f"{path}: not in {spec['queries']}: {'; '.join(sorted(unknown))}")
    held_out = tuple(query for query in measured if query not in uncovered)
    source = read_source(path.parent / spec["source"])
    name, fit = path.name.removesuffix(".context.json"), tuple(spec["fit"])
    return LadderContext(name, spec["kind"], source, fit, held_out, uncovered)
