"""One context of the ladder: all students in one walk, then each measured as an artifact is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benches.ladder_contexts import LadderContext
from benches.peers.run_kvpress import job, kvpress, presses
from pcompiler import embedded, fidelity
from pcompiler.codec import tensors, zstd
from pcompiler.config import Config, ProbeConfig
from pcompiler.dynamics.distil import refine
from pcompiler.dynamics.ridge import Ridge
from pcompiler.frontend import parse
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import Prefix, nothing
from pcompiler.targets.base import Compilation
from pcompiler.targets.encoding import from_tensors, to_tensors
from pcompiler.targets.fitted import Recipe, best, companion, fit, students_of

Row = dict[str, Any]

ALL = 100_000  # a rank that no matrix has: full rank
FACTORS = (2.0, 5.0, 10.0, 20.0, 50.0)
HEADLINE = (
    *(Recipe(f, 0) for f in (10.0, 20.0, 50.0)),
    *(Recipe(f, 0, budget="head") for f in (10.0, 50.0)),
    *(Recipe(f, 16) for f in (10.0, 20.0, 50.0)),
    Recipe(50.0, 4),
    *(Recipe(None, rank) for rank in (64, ALL)),
)
FULL = (
    *(Recipe(f, 0) for f in FACTORS),
    *(Recipe(f, 0, budget="head") for f in (10.0, 50.0)),
    *(Recipe(f, 0, by_attention=True) for f in FACTORS),
    *(Recipe(f, 0, matched=False) for f in (10.0, 50.0)),
    *(Recipe(f, rank) for f in FACTORS for rank in (4, 16, 64)),
    *(Recipe(None, rank) for rank in (4, 16, 64, ALL)),
)
WEIGHTS = tuple(Recipe(None, rank) for rank in (64, ALL))
PUBLISHED = tuple(Recipe(f, 0, by_attention=True) for f in FACTORS[1:])  # arXiv 2602.16284
HYBRIDS = tuple(Recipe(f, 16) for f in (10.0, 20.0, 50.0))  # each beside its own cache
GRIDS = {
    "headline": HEADLINE,
    "full": FULL,
    "weights": WEIGHTS,
    "hybrids": HYBRIDS,
    "published": PUBLISHED,
}
REFINED = 64  # rank of the patch that gradients go on from, if asked to
BYTE_BUDGET = Recipe(50.0, 4)  # also in 8 bit: for the reference's 0.5 MB a context
PRESSES = ("snapkv", "expected_attention")
PEER_FACTORS = (10.0,)


def measure(
    model: LanguageModel,
    context: LadderContext,
    grid: Sequence[Recipe],
    fitting: int,
    peer: Path | None,
    refine_steps: int = 0,
    refined_rank: int = REFINED,
) -> Row:
    """All rows of one context."""
    probes = [Probe(query) for query in (*context.held_out, *context.uncovered)]
    fit = [Probe(query) for query in context.fit]
    config = Config(probes=ProbeConfig(fitting=fitting))
    known = Compilation(parse(context.source), model, config, probes, fit)
    start = time.perf_counter()
    _ = known.rows
    probing_s = time.perf_counter() - start
    ladder = _Ladder(known, fidelity.reference(known, probes), len(context.held_out))
    refined = Recipe(None, refined_rank) if refine_steps else None
    if refined and refined not in grid:
        grid = [*grid, refined]
    rows = ladder.climb(grid, refined, refine_steps)
    if peer is not None:
        wanted = presses(PRESSES, PEER_FACTORS, len(known.context))
        rows += _peer_rows(kvpress(peer, embedded.folder(), job(known, ladder.reference, wanted)))
    return {
        "context": context.name,
        "kind": context.kind,
        "tokens": len(known.context),
        "fitting_probes": len(known.fitting),
        "fitting_tokens": sum(len(row.query) + len(row.answer) for row in known.rows),
        "held_out": len(context.held_out),
        "uncovered": len(context.uncovered),
        "answer_tokens": ladder.reference.answer_tokens,
        "probing_s": probing_s,
        "rows": rows,
    }


class _Ladder:
    def __init__(self, known: Compilation, reference: fidelity.Reference, held_out: int) -> None:
        self.known, self.reference = known, reference
        self._held_out = range(held_out)
        self._uncovered = range(held_out, len(reference.queries))

    def climb(self, grid: Sequence[Recipe], refined: Recipe | None, steps: int) -> list[Row]:
        """Rows of all recipes, of no prompt, and of what so many steps make of one recipe."""
        start = time.perf_counter()
        solvers = [Ridge([recipe.rank] * self.known.model.card.layers) for recipe in grid]
        students = students_of(self.known, grid, solvers)
        shared_s = time.perf_counter() - start - sum(student.seconds for student in students)
        prefixes = {r: s.prefix() for r, s in zip(grid, students, strict=True)}
        empty = nothing(self.known.model)
        rows = [{"method": "no prompt", **self._figures(empty), "bytes": 0}]
        for recipe, student in zip(grid, students, strict=True):
            chosen, notes = self._chosen(recipe, prefixes)
            if recipe.factor and recipe.rank:
                bare = replace(prefixes[recipe], patch=None)
                rows.append(self._row(recipe, bare, 16) | {"method": "hybrid without its patch"})
            seconds = {"walk_s": shared_s + student.seconds}
            rows.append(self._row(recipe, chosen, 16) | notes | seconds)
            if recipe == BYTE_BUDGET:
                rows.append(self._row(recipe, chosen, 8) | notes | seconds)
            if recipe == refined:
                rows.append(self._refined(recipe, prefixes[recipe], steps))
        return rows

    def _refined(self, recipe: Recipe, closed_form: Prefix, steps: int) -> Row:
        known, start = self.known, time.perf_counter()
        seed = known.config.compile.seed
        after = refine(known.mixed(), known.teacher, closed_form, known.rows, steps, seed)
        chosen, notes = best(known, after, nothing(known.model))
        took = {"refine_s": time.perf_counter() - start, "steps": steps}
        return self._row(recipe, chosen, 16) | {"method": "weights refined"} | notes | took

    def _chosen(self, recipe: Recipe, prefixes: dict[Recipe, Prefix]) -> tuple[Prefix, Row]:
        """As the targets do: the patch at the strength that validation probes choose."""
        if not recipe.rank:
            return prefixes[recipe], {}
        if recipe.factor is None:
            return best(self.known, prefixes[recipe], nothing(self.known.model))
        alone = Recipe(recipe.factor, 0)
        return companion(self.known, prefixes[recipe], lambda: self._fitted(alone, prefixes))

    def _fitted(self, recipe: Recipe, prefixes: dict[Recipe, Prefix]) -> Prefix:
        return prefixes[recipe] if recipe in prefixes else fit(self.known, [recipe])[0]

    def _row(self, recipe: Recipe, prefix: Prefix, bits: int) -> Row:
        body = tensors.to_planes(to_tensors(prefix, bits))
        size = len(zstd.compress(body))
        stored = from_tensors(self.known.model, tensors.from_planes(body), frozenset())
        kind = "weights" if recipe.factor is None else "hybrid"
        plain = "matching" if recipe.matched else "eviction"
        plain += " per head" if recipe.budget == "head" else ""
        plain += " by attention" if recipe.by_attention else ""
        return {
            "method": kind if recipe.rank else plain,
            **asdict(recipe),
            "bits": bits,
            "bytes": size,
            **self._figures(stored),
        }

    def _figures(self, prefix: Prefix) -> Row:
        distance = fidelity.compare(self.known.model, prefix, self.reference, "ladder")
        kl, agreement = distance.means(self._held_out)
        found: Row = {"kl": kl, "agreement": agreement}
        if self._uncovered:
            found["kl_uncovered"], found["agreement_uncovered"] = distance.means(self._uncovered)
        worst = [k / t for k, t in zip(distance.kl, distance.tokens, strict=True)]
        return found | {"kl_worst_probe": max(worst[i] for i in self._held_out)}


def _peer_rows(found: Sequence[Row]) -> list[Row]:
    return [{"method": f"kvpress {row['press']}", **row} for row in found]
