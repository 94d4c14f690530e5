"""Compacted caches, patches and hybrids: what is fitted, chosen, written down and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny

from pcompiler import pipeline, targets
from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig, StoreConfig, TargetConfig
from pcompiler.dynamics.listener import Listener
from pcompiler.dynamics.packs import Row
from pcompiler.dynamics.ridge import shared_ranks
from pcompiler.errors import InputError
from pcompiler.frontend import parse
from pcompiler.ir import Probe
from pcompiler.runtime.prefix import nothing
from pcompiler.store.artifact import Artifact
from pcompiler.targets import fitted
from pcompiler.targets.base import Built, Compilation
from pcompiler.targets.fitted import Recipe, fit, row_kl

PROMPT = (
    "You are the desk of a workshop. It opens at nine and closes at five. Dogs are welcome.\n\n"
    "A repair is 12 EUR. Bring your own bolts on Mondays. Ask for Mrs Abt about frames.\n"
)
QUERIES = ["When?", "Is it open on Sunday?", "How much is a repair?"]
PROBES = ProbeConfig(self_study=3, fitting=24, query_tokens=6, answer_tokens=6)
FITTED: list[tuple[str, dict[str, Any]]] = [
    ("kv", {"factor": 4.0}),
    ("kv", {"factor": 4.0, "bits": 8, "budget": "head"}),
    ("weights", {"rank": 4, "bits": 8}),
    ("weights", {"rank": 4, "budget_bytes": 1000}),
    ("hybrid", {"factor": 4.0, "rank": 4}),
    ("hybrid", {"factor": 30.0, "rank": 2, "bits": 8, "budget": "head"}),
]


@pytest.fixture(scope="module")
def known() -> Compilation:
    """A prompt whose probes and answers are made once for all tests here."""
    given = tuple(map(Probe, QUERIES))
    made = Compilation(parse(PROMPT), tiny(), Config(probes=PROBES), given)
    _ = made.rows
    return made


def settled(known: Compilation, **settings: Any) -> Compilation:
    return known.with_config(replace(known.config, targets=TargetConfig(**settings)))


def build(known: Compilation, target: str, **settings: Any) -> Built:
    return targets.get(target).build(settled(known, **settings))


def validation(known: Compilation) -> list[Row]:
    return [row for row in known.rows if row.validation]


def kl(known: Compilation, target: str, tensors: Mapping[str, torch.Tensor]) -> float:
    """Validation KL of what was stored, summed over rows."""
    prefix = targets.get(target).attach(known.model, tensors)
    return float(row_kl(known, [prefix], validation(known)).sum())


@pytest.mark.parametrize(("target", "settings"), FITTED)
def test_what_the_store_gives_back_is_what_was_built_and_measured(
    compiler: Compiler, target: str, settings: dict[str, Any]
) -> None:
    done = compiler.compile(PROMPT, target, QUERIES, **settings)
    artifact = compiler.store.get(done.id)
    assert Artifact.decode(artifact.encode()) == artifact
    config = replace(compiler.config, targets=TargetConfig(**settings))
    work = pipeline.Work(PROMPT, tuple(map(Probe, QUERIES)), compiler.model, config)
    built = targets.get(target).build(work.compilation)
    stored = artifact.tensors()
    assert stored.keys() == built.tensors.keys()
    for name, tensor in built.tensors.items():
        assert torch.equal(stored[name], tensor), name
    again = pipeline.remeasure(work, artifact)
    assert (again.kl, again.agreement) == (done.fidelity.kl, done.fidelity.agreement)
    assert (done.header.kept_tokens > 0) == (target != "weights")
    with compiler.session(done) as session:
        session.generate("When?", max_tokens=4)


@pytest.mark.parametrize(("target", "settings"), [FITTED[i] for i in (0, 3, 5)])
def test_two_compilations_give_the_same_bytes(
    target: str,
    settings: dict[str, Any],
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    encoded = []
    for name in ("a", "b"):
        own = replace(config, store=StoreConfig(str(tmp_path / name)))
        with Compiler(model=tiny(), config=own) as compiler:
            artifact = compiler.store.get(compiler.compile(PROMPT, target, **settings).id)
        encoded.append(Artifact(replace(artifact.header, timing={}), artifact.body).encode())
    assert encoded[0] == encoded[1]


@pytest.mark.parametrize("settings", [{}, {"rank": 1}, {"strength": 0.0}, {"budget_bytes": 700}])
def test_weights_are_never_worse_than_no_prompt_on_validation_rows(
    known: Compilation, settings: dict[str, Any]
) -> None:
    built = build(known, "weights", **settings)
    without = float(row_kl(known, [nothing(known.model)], validation(known)).sum())
    assert kl(known, "weights", built.tensors) <= without * (1 + 1e-3)
    tokens = sum(len(row.answer) for row in known.rows if row.validation)
    assert built.fit["validation_kl_unpatched"] * tokens == pytest.approx(without, rel=1e-3)


@pytest.mark.parametrize("settings", [{"rank": 4}, {"rank": 1, "bits": 8}, {"budget": "head"}])
@pytest.mark.parametrize("factor", [3.0, 30.0])
def test_a_hybrid_is_never_worse_than_its_cache_alone_on_validation_rows(
    known: Compilation, factor: float, settings: dict[str, Any]
) -> None:
    built = build(known, "hybrid", factor=factor, **settings)
    cache = {n: t for n, t in built.tensors.items() if not n.startswith("patch")}
    own, alone = kl(known, "hybrid", built.tensors), kl(known, "kv", cache)
    assert own <= alone * (1 + 1e-3)
    assert built.fit["validation_kl"] <= built.fit["validation_kl_unpatched"]


def test_a_strength_of_zero_is_no_patch(known: Compilation) -> None:
    built = build(known, "weights", strength=0.0)
    assert built.fit["strength"] == 0
    none, model = row_kl(known, [nothing(known.model)], validation(known)), known.model
    attached = targets.get("weights").attach(model, built.tensors)
    assert torch.equal(row_kl(known, [attached], validation(known)), none)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_a_strength_that_is_asked_for_is_taken(known: Compilation, strength: float) -> None:
    (whole,) = fit(settled(known), [Recipe(None, 4)])
    built = build(known, "weights", rank=4, strength=strength)
    attached = targets.get("weights").attach(known.model, built.tensors)
    assert built.fit["strength"] == strength
    assert whole.patch is not None
    assert attached.patch is not None
    for i, delta in attached.patch.deltas.items():
        fitted = whole.patch.deltas[i]
        got, want = delta.b.float() @ delta.a.float(), strength * fitted.b @ fitted.a
        assert float((got - want).norm() / want.norm()) < 1e-2


def test_the_strength_in_the_notes_is_that_of_the_stored_patch(
    known: Compilation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a second fit, without a patch, was compared with."""
    monkeypatch.setattr("pcompiler.targets.fitted.STRENGTHS", (0.6,))
    monkeypatch.setattr("pcompiler.targets.fitted._better", lambda *_: True)
    built = build(known, "hybrid", factor=30.0, rank=4)
    (whole,) = fit(settled(known, factor=30.0), [Recipe(30.0, 4)])
    assert whole.patch is not None
    want = torch.cat([whole.patch.deltas[i].bias for i in sorted(whole.patch.deltas)])
    got = built.tensors["patch_bias"].flatten().float()
    assert float(got @ want / (want @ want)) == pytest.approx(built.fit["strength"], rel=1e-2)


@pytest.mark.parametrize("factor", [4.0, 10_000.0])
def test_what_a_header_says_is_kept_is_what_is_kept(known: Compilation, factor: float) -> None:
    built = build(known, "kv", factor=factor, budget="head")
    assert built.kept_tokens == built.tensors["keys"].shape[2] >= 1


def test_eight_bits_take_little_more_than_half_and_do_little_harm(known: Compilation) -> None:
    sizes, kls = [], []
    for bits in (16, 8):
        tensors = build(known, "kv", factor=4.0, bits=bits).tensors
        names = ("keys", "values", "keys_scale", "values_scale")
        sizes.append(sum(tensors[n].nbytes for n in names if n in tensors))
        kls.append(kl(known, "kv", tensors))
    assert sizes[1] <= 0.7 * sizes[0]  # heads of 8 numbers have a scale each
    assert kls[1] < 1.5 * kls[0]


def test_a_patch_stays_within_its_budget_of_bytes(known: Compilation) -> None:
    ranks = {}
    for budget, bits in ((600, 16), (2000, 16), (2000, 8)):
        settings = {"budget_bytes": budget, "strength": 1.0, "bits": bits}
        tensors = build(known, "weights", **settings).tensors
        patch = [
            t for name, t in tensors.items() if name.startswith("patch_") and "ranks" not in name
        ]
        assert sum(t.nbytes for t in patch) <= budget
        ranks[budget, bits] = len(tensors["patch_a"])
    assert ranks[2000, 8] > 1.5 * ranks[2000, 16]  # half the size, twice the directions
    with pytest.raises(InputError, match="352 or more"):
        build(known, "weights", budget_bytes=300)


def test_a_budget_is_not_spent_on_layers_whose_patch_is_left_out(
    known: Compilation, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[list[int]] = []

    def shared(energies: list[torch.Tensor], directions: int) -> list[int]:
        shares.append(shared_ranks(energies, directions))
        assert sum(shares[-1]) == directions
        return shares[-1]

    monkeypatch.setattr(fitted, "shared_ranks", shared)
    build(known, "weights", budget_bytes=2000)
    monkeypatch.setattr(Listener, "keeps", lambda _self, layer, *_: layer > 0)
    build(known, "weights", budget_bytes=2000)
    (every, later) = shares
    assert every[0] > 0
    assert later[0] == 0
