"""Tokens a second with a patch and in 8 bit: a patch that costs is seen to cost."""

from __future__ import annotations

from dataclasses import replace

import torch
from conftest import tiny
from test_patch import thinned

from pcompiler.bench import generation
from pcompiler.bench.harness import Setting
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import prefill

CONTEXT = list(b"The workshop opens at nine and closes at five, except on Sundays.")


def share(rank: int) -> tuple[list[str], float]:
    """Names of all figures, and the speed with a patch of this rank in percent of that without."""
    model = tiny()
    exact, card = prefill(model, CONTEXT), model.card
    factors = torch.zeros(rank, card.intermediate), torch.zeros(card.hidden, rank)
    delta = Delta(*factors, torch.zeros(card.hidden))
    patch = Patch(dict.fromkeys(range(card.layers), delta))
    hybrid = replace(thinned(exact, [0, 9, 33, 60]), patch=patch)
    found = generation.figures(Setting(model.device, 5, True), model, exact, hybrid, [5, 6, 7])
    assert all(figure.value > 0 and len(figure.samples) == 5 for figure in found)
    (of_patch, _) = (figure for figure in found if figure.unit == "%")
    assert of_patch.goal == 95
    return [figure.name for figure in found], of_patch.value


def test_a_patch_that_costs_is_seen_to_cost() -> None:
    names, little = share(1)
    assert len(set(names)) == len(names) == 6
    _, much = share(200_000)
    assert much < 50 < little
