"""Caches and patches fitted on probes: what kv --factor, weights and hybrid have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch

from pcompiler import clock, heap, progress
from pcompiler.codec.tensors import row_bytes
from pcompiler.dynamics import matching
from pcompiler.dynamics.capture import Teacher, Walker
from pcompiler.dynamics.distil import refine
from pcompiler.dynamics.listener import MOST_TOKENS, Listener
from pcompiler.dynamics.packs import Pack, Row, pack_rows
from pcompiler.dynamics.ridge import Ridge, shared_ranks
from pcompiler.dynamics.student import Student, walk
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.decode import score
from pcompiler.runtime.in_place import has_windows
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import Prefix
from pcompiler.targets.base import Built, Compilation
from pcompiler.targets.encoding import to_tensors

STRENGTHS = (1.0, 0.8, 0.6)
ENOUGH_ASKED = 8  # of the user's own validation rows, to choose by them alone


@dataclass(frozen=True)
class Recipe:
    """One student to fit.

    Attributes:
        factor: prompt tokens over kept ones; none: no cache.
        rank: of the patch; 0: no patch.
        matched: fit β and values, or keep the chosen keys as they are.
        budget: of keys, as in the settings; none: what they say.
        by_attention: choose keys by attention weights alone, as many for every head.
    """

    factor: float | None
    rank: int
    matched: bool = True
    budget: str | None = None
    by_attention: bool = False


def fit(compilation: Compilation, recipes: Sequence[Recipe]) -> list[Prefix]:
    """Fit any number of students in one walk behind the same teacher; then refine, if asked to.

    With a budget of bytes there are two walks: the first finds where the energy is, the second
    solves each layer at the rank that it gets.

    Raises:
        InputError: the budget is too small for one direction.
    """
    card, settings = compilation.model.card, compilation.config.targets
    solvers = [Ridge([recipe.rank] * card.layers) for recipe in recipes]
    if settings.budget_bytes is not None and any(recipe.rank for recipe in recipes):
        directions = _directions(compilation, settings.budget_bytes)
        first = students_of(compilation, recipes, solvers)
        solvers = [
            Ridge(shared_ranks(_energies(solver, student), directions)) if recipe.rank else solver
            for solver, student, recipe in zip(solvers, first, recipes, strict=True)
        ]
    students = students_of(compilation, recipes, solvers)
    return [_refined(compilation, student.prefix()) for student in students]


def _energies(solver: Ridge, student: Student) -> list[torch.Tensor]:
    """Of each layer; none where its patch was left out, and a budget would be wasted."""
    return [e if layer in student.deltas else e[:0] for layer, e in enumerate(solver.energies)]


def students_of(
    compilation: Compilation, recipes: Sequence[Recipe], solvers: Sequence[Ridge]
) -> list[Student]:
    """The recipes' students after one walk behind the same teacher."""
    model = compilation.mixed(kept=False)
    packs = pack_rows(compilation.rows, device=model.device)
    heap.give_back()  # what writing and answering probes took
    start = clock.seconds()
    teacher = Teacher(model, compilation.teacher, packs)
    common = any(r.factor and _budget(compilation, r) == "global" for r in recipes)
    weights = teacher.record() if common else None
    students = [
        _student(compilation, model, recipe, solver if recipe.rank else None, packs, weights)
        for recipe, solver in zip(recipes, solvers, strict=True)
    ]
    walk(model, teacher, students)
    heap.give_back()
    solving_s = sum(student.solving_s for student in students)
    compilation.spend("walk", clock.seconds() - start)
    compilation.spend("solving", solving_s)
    return students


def _student(
    compilation: Compilation,
    model: LanguageModel,
    recipe: Recipe,
    solve: Ridge | None,
    packs: list[Pack],
    weights: torch.Tensor | None,
) -> Student:
    factor = recipe.factor
    if factor is None:
        bare = pack_rows(compilation.rows, bare=True, device=model.device)
        listener = _listener(compilation, model, bare) if solve else None
        return Student(Walker(model, bare, 0), solve=solve, listener=listener)
    walker = Walker(model, packs, compilation.teacher.length)
    if weights is None or _budget(compilation, recipe) == "head":

        def choose(_layer: int, teacher: Teacher) -> torch.Tensor:
            weights = teacher.attention if recipe.by_attention else teacher.importance
            return matching.most_important(weights, factor)

        return Student(walker, choose, recipe.matched, solve)
    kept = matching.most_important_of_all(weights, factor)
    return Student(walker, lambda layer, _: kept[layer], recipe.matched, solve)


def _listener(
    compilation: Compilation, model: LanguageModel, packs: Sequence[Pack]
) -> Listener | None:
    """To the validation probes that decide, as many as it takes; none: there are none."""
    deciding = {id(row) for row in _deciding(compilation.rows)}
    numbers = [i for i, pack in enumerate(packs) if id(pack.rows[0]) in deciding]
    ends = accumulate(len(packs[i].tokens) for i in numbers)
    chosen = [
        i for i, end in zip(numbers, ends, strict=True) if i == numbers[0] or end <= MOST_TOKENS
    ]
    some = [packs[i] for i in chosen]
    return Listener(model, compilation.teacher, some, chosen) if some else None


def _deciding(rows: Sequence[Row]) -> list[Row]:
    """The validation rows to choose by: the user's alone, where there are enough of them.

    A prompt can matter much for questions about itself and little for those that users ask.
    """
    found = [row for row in rows if row.validation]
    users = [row for row in found if row.asked]
    return users if len(users) >= ENOUGH_ASKED else found


def _budget(compilation: Compilation, recipe: Recipe) -> str:
    return "head" if recipe.by_attention else recipe.budget or compilation.config.targets.budget


def _directions(compilation: Compilation, budget: int) -> int:
    """Rank-1 parts of a patch that fit a budget as they are stored, beside every layer's bias."""
    card, bits = compilation.model.card, compilation.config.targets.bits
    each = sum(row_bytes(width, bits) for width in (card.hidden, card.intermediate))
    biases = row_bytes(card.hidden, 16) * card.layers
    if budget < biases + each:
        raise InputError(
            f"budget_bytes = {budget} is too small: this model's biases take {biases} and one "
            f"direction {each}; give {biases + each} or more."
        )
    return (budget - biases) // each


def _refined(compilation: Compilation, prefix: Prefix) -> Prefix:
    """After the asked steps of distillation; as it was, where validation rows say so."""
    steps, seed = compilation.config.targets.refine, compilation.config.compile.seed
    if not steps or (prefix.patch is None and prefix.bias is None):
        return prefix
    rows = compilation.rows
    after = refine(compilation.mixed(), compilation.teacher, prefix, rows, steps, seed)
    before_kl, after_kl = row_kl(compilation, [prefix, after], _deciding(rows))
    return after if _better(after_kl, before_kl) else prefix


def row_kl(
    compilation: Compilation, prefixes: Sequence[Prefix], rows: Sequence[Row]
) -> torch.Tensor:
    """(prefixes, rows) KL(teacher ‖ student), nats, summed over each row's answer."""
    model, answers = compilation.model, [row.answer for row in rows]
    teacher = list(score(model, compilation.teacher, [row.query for row in rows], answers))
    found = torch.zeros(len(prefixes), len(rows))
    with progress.bar(len(prefixes), "choosing", "fit") as shown:
        for i, prefix in enumerate(prefixes):
            queries = [row.query if prefix.length else row.bare for row in rows]
            pairs = zip(teacher, score(model, prefix, queries, answers), strict=True)
            found[i] = torch.tensor([float((p.exp() * (p - q)).sum()) for p, q in pairs])
            shown.update()
    return found


@ranged("choose strength")
def best(
    compilation: Compilation, patched: Prefix, unpatched: Prefix
) -> tuple[Prefix, dict[str, Any]]:
    """The patch at the strength with the least validation KL, or the student without it.

    The patch has to be better by more than chance: by a standard error of the paired rows.

    Returns:
        The choice, and notes on it: strength, validation KL (nats per answer token) with and
        without the patch, and ``gain``, 1 − the ratio of the two.
    """
    asked = compilation.config.targets.strength
    strengths = [s for s in (STRENGTHS if asked is None else (asked,)) if s > 0]
    tried = {s: _at(patched, s) for s in strengths if patched.patch is not None}
    rows = _deciding(compilation.rows)
    kls = row_kl(compilation, [unpatched, *tried.values()], rows)
    best_one = int(kls.sum(1).argmin()) if asked is None else len(tried)
    if asked is None and not _better(kls[best_one], kls[0]):
        best_one = 0
    tokens = sum(len(row.answer) for row in rows)
    without, chosen = float(kls[0].sum()) / tokens, float(kls[best_one].sum()) / tokens
    notes = {
        "strength": [0.0, *tried][best_one],
        "validation_kl": chosen,
        "validation_kl_unpatched": without,
        "gain": 1 - chosen / without if without > 0 else 0.0,
    }
    return [unpatched, *tried.values()][best_one], notes


def companion(
    compilation: Compilation, patched: Prefix, fit_alone: Callable[[], Prefix]
) -> tuple[Prefix, dict[str, Any]]:
    """``best`` of a cache with its patch and the same cache without.

    Only where the patch is left out is another cache fitted, on a walk without patches, which
    takes a third of a compile. Of two articles at 10, 20 and 50× and a third at 10×, the cache of
    the one walk was within 1, 3 and 8 % of the other's KL, and with its patch better than both.
    """
    chosen, notes = best(compilation, patched, replace(patched, patch=None))
    asked = compilation.config.targets.strength is not None
    if asked or chosen.patch or not patched.patch:
        return chosen, notes
    return best(compilation, patched, fit_alone())


def _better(new: torch.Tensor, old: torch.Tensor) -> bool:
    """Whether rows of KL are lower than before by more than a standard error of the mean."""
    gain = old - new
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5) if len(gain) > 1 else False


def built(compilation: Compilation, prefix: Prefix, notes: dict[str, Any]) -> Built:
    """A fitted prefix as an artifact's tensors; where no patch is left, an empty one says so."""
    settings, model = compilation.config.targets, compilation.model
    if "rank" in notes and prefix.patch is None:
        prefix = replace(prefix, patch=_no_patch(model))
    tensors = to_tensors(prefix, settings.bits, has_windows(model))
    n = len(compilation.context)
    kept = max(1, round(n / notes["factor"])) if "factor" in notes else 0
    return Built(tensors, kept, notes | {"probes": len(compilation.rows)})


def _no_patch(model: LanguageModel) -> Patch:
    """A patch of rank 0 in the first layer: what an artifact keeps where none was of use."""
    card = model.card
    zero = torch.zeros(0, card.intermediate), torch.zeros(card.hidden, 0), torch.zeros(card.hidden)
    return Patch({0: Delta(*zero)})


def _at(prefix: Prefix, strength: float) -> Prefix:
    assert prefix.patch is not None
    return replace(prefix, patch=prefix.patch.times(strength))
