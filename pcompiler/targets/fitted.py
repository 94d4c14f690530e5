"""Caches and patches fitted on probes: what kv --factor, weights and hybrid have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pcompiler import progress
from pcompiler.dynamics import matching
from pcompiler.dynamics.capture import Pack, Teacher, Walker, pack_rows
from pcompiler.dynamics.ridge import Ridge
from pcompiler.dynamics.student import Student, walk
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import score
from pcompiler.runtime.in_place import window_of
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import Prefix
from pcompiler.targets.base import Built, Compilation
from pcompiler.targets.encoding import to_tensors

STRENGTHS = (1.0, 0.6)


@dataclass(frozen=True)
class Recipe:
    """One student to fit.

    Attributes:
        factor: prompt tokens over kept ones; none: no cache.
        rank: of the patch; 0: no patch.
        matched: fit β and values, or keep the chosen keys as they are.
    """

    factor: float | None
    rank: int
    matched: bool = True


def fit(compilation: Compilation, recipes: Sequence[Recipe]) -> list[Prefix]:
    """Fit any number of students in one walk behind the same teacher."""
    model, teacher = compilation.model, compilation.teacher
    packs = pack_rows(compilation.rows)
    students = [_student(compilation, recipe, packs) for recipe in recipes]
    walk(model, Teacher(model, teacher, packs), students)
    return [student.prefix() for student in students]


def _student(compilation: Compilation, recipe: Recipe, packs: list[Pack]) -> Student:
    model, teacher = compilation.model, compilation.teacher
    solve = Ridge(recipe.rank) if recipe.rank else None
    factor = recipe.factor
    if factor is None:
        return Student(Walker(model, pack_rows(compilation.rows, bare=True), 0), solve=solve)
    walker = Walker(model, packs, teacher.length)
    if compilation.config.targets.budget == "global":
        weights = matching.importance(model, teacher, packs)
        kept = matching.most_important_of_all(weights, factor)
        return Student(walker, lambda layer, _: kept[layer], recipe.matched, solve)
    return Student(
        walker, lambda _, weights: matching.most_important(weights, factor), recipe.matched, solve
    )


def validation_kl(compilation: Compilation, prefixes: Sequence[Prefix]) -> list[float]:
    """KL(teacher ‖ student) on the validation rows, nats per answer token, for each prefix."""
    rows = [row for row in compilation.rows if row.validation]
    model, answers = compilation.model, [row.answer for row in rows]
    teacher = list(score(model, compilation.teacher, [row.query for row in rows], answers))
    found = []
    with progress.bar(len(prefixes), "choosing", "fit") as shown:
        for prefix in prefixes:
            queries = [row.query if prefix.length else row.bare for row in rows]
            pairs = zip(teacher, score(model, prefix, queries, answers), strict=True)
            total = sum(float((p.exp() * (p - q)).sum()) for p, q in pairs)
            found.append(total / sum(map(len, answers)))
            shown.update()
    return found


def best(
    compilation: Compilation, patched: Prefix, unpatched: Prefix
) -> tuple[Prefix, dict[str, Any]]:
    """The patch at the strength with the least validation KL, or the student without it."""
    asked = compilation.config.targets.strength
    strengths = [s for s in (STRENGTHS if asked is None else (asked,)) if s > 0]
    if patched.patch is None:
        strengths = []
    tried = [_at(patched, s) for s in strengths]
    kls = validation_kl(compilation, [unpatched, *tried])
    if asked:
        return tried[0] if tried else unpatched, _notes(kls, asked if tried else 0.0, kls[-1])
    i = min(range(len(kls)), key=kls.__getitem__)
    if i == 0:
        return unpatched, _notes(kls, 0.0, kls[0])
    return tried[i - 1], _notes(kls, strengths[i - 1], kls[i])


def built(compilation: Compilation, prefix: Prefix, notes: dict[str, Any]) -> Built:
    """A fitted prefix as an artifact's tensors; where no patch is left, an empty one says so."""
    settings, model = compilation.config.targets, compilation.model
    if "rank" in notes and prefix.patch is None:
        prefix = replace(prefix, patch=_no_patch(model))
    windows = any(window_of(model, layer.self_attn) for layer in model.hf.model.layers)
    tensors = to_tensors(prefix, settings.bits, windows)
    n = len(compilation.context)
    kept = round(n / notes["factor"]) if "factor" in notes else 0
    return Built(tensors, kept, notes | {"probes": len(compilation.rows)})


def _no_patch(model: LanguageModel) -> Patch:
    """A patch of rank 0 in the first layer: what an artifact keeps where none was of use."""
    card = model.card
    zero = torch.zeros(0, card.intermediate), torch.zeros(card.hidden, 0), torch.zeros(card.hidden)
    return Patch({0: Delta(*zero)})


def _notes(kls: Sequence[float], strength: float, chosen: float) -> dict[str, Any]:
    return {"strength": strength, "validation_kl": chosen, "validation_kl_unpatched": kls[0]}


def _at(prefix: Prefix, strength: float) -> Prefix:
    assert prefix.patch is not None
    return replace(prefix, patch=prefix.patch.times(strength))
