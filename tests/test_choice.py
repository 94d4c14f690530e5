"""Which patch is kept: the probes that users ask decide, where there are enough of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import tiny

from pcompiler.config import Config, ProbeConfig
from pcompiler.dynamics.packs import Row
from pcompiler.frontend import parse
from pcompiler.ir import Probe
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import nothing
from pcompiler.targets import fitted
from pcompiler.targets.base import Compilation

PROMPT = "The workshop opens at nine and closes at five, except on Sundays. Ask for Mrs Abt."


@pytest.mark.parametrize(("users", "kept"), [(0.5, True), (2.0, False)])
def test_a_patch_that_helps_self_study_only_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, users: float, kept: bool
) -> None:
    """Self-study says a tenth of the KL, users say half of it or twice of it."""
    asked = [Probe(f"What about day {i}?") for i in range(27)]
    probes = ProbeConfig(self_study=2, fitting=18, query_tokens=6, answer_tokens=4)
    made = Compilation(parse(PROMPT), tiny(), Config(probes=probes), [Probe("When?")], asked)
    rows = [row for row in made.rows if row.validation]
    assert sum(row.asked for row in rows) >= fitted.ENOUGH_ASKED

    def kl(_: object, prefixes: list[object], rows: list[Row]) -> torch.Tensor:
        share = torch.tensor([users if row.asked else 0.1 for row in rows])
        level = torch.linspace(1, 2, len(rows))
        return torch.stack([level, *[level * share for _ in prefixes[1:]]])

    monkeypatch.setattr(fitted, "row_kl", kl)
    card, empty = made.model.card, nothing(made.model)
    zero = Delta(torch.zeros(1, card.intermediate), torch.zeros(card.hidden, 1), torch.zeros(32))
    chosen, notes = fitted.best(made, replace(empty, patch=Patch({0: zero})), empty)
    assert (chosen.patch is not None) == kept
    assert (notes["strength"] > 0) == kept
