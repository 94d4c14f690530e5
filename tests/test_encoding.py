"""What an artifact is made of, and what it is called: no part may be lost, no name be shared."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from conftest import tiny
from test_fitted_targets import PROBES, PROMPT, QUERIES, build, known
from test_patch import random_patch, thinned
from test_walk import CONTEXT

from pcompiler import fidelity, targets
from pcompiler.config import Config, TargetConfig
from pcompiler.errors import DamageError, InputError
from pcompiler.frontend import parse
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Work
from pcompiler.runtime.prefix import nothing, prefill
from pcompiler.targets.base import VALIDATION_EVERY, Compilation
from pcompiler.targets.encoding import to_tensors

__all__ = ["known"]  # a fixture
TARGETS = ("kv", "text", "weights", "hybrid")
OTHERS: dict[str, Any] = {
    "factor": 7.0,
    "budget": "head",
    "bits": 8,
    "rank": 3,
    "budget_bytes": 5000,
    "strength": 0.5,
    "refine": 2,
    "rate": 0.5,
    "target_tokens": 9,
    "ranking": "lexical",
    "protect": "none",
    "force": "nine",
    "section": "system=0.5",
    "duplicates": "near",
}
# In what words a tensor is complained about, where not by its name.
WORDS = {"length": "length|how long", "patch_ranks": "patch_ranks|layers|patch_a"}
WORDS |= {f"{n}_scale": f"{n}.*scale" for n in ("keys", "values", "patch_a", "patch_b")}


def hybrid(family: str, bits: int) -> tuple[LanguageModel, dict[str, torch.Tensor]]:
    """A hybrid's tensors, made by hand; with positions where the family has windows."""
    model, kept = tiny(family), [0, 5, 30, 31, 60]
    prefix = thinned(prefill(model, CONTEXT), kept, random_patch(model, 1))
    return model, to_tensors(prefix, bits, windows=family == "mistral")


def same(model: LanguageModel, tensors: dict[str, torch.Tensor], target: str = "hybrid") -> bool:
    """Whether the tensors load; a DamageError otherwise."""
    return targets.get(target).attach(model, tensors).length == len(CONTEXT)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_hybrid_without_any_one_of_its_tensors_is_not_whole(family: str, bits: int) -> None:
    model, tensors = hybrid(family, bits)
    assert same(model, tensors)
    assert len(tensors) == 8 + (family == "mistral") + 4 * (bits == 8)
    for name in tensors:
        left = {n: t for n, t in tensors.items() if n != name}
        with pytest.raises(DamageError, match=WORDS.get(name, name)):
            same(model, left)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_hybrid_with_a_tensor_of_another_shape_is_refused(family: str, bits: int) -> None:
    model, tensors = hybrid(family, bits)
    for name, tensor in tensors.items():
        for other in (tensor[..., :-1], tensor[:-1], tensor[None], torch.zeros(0)):
            with pytest.raises(DamageError, match=WORDS.get(name, name)):
                same(model, {**tensors, name: other})


def test_a_patch_for_layers_that_are_not_there_is_refused() -> None:
    model, tensors = hybrid("llama", 16)
    for ranks in ([[0, 1], [3, 3]], [[-1, 1], [2, 3]], [[0, 1], [0, 3]], [[0, 5], [2, -1]]):
        with pytest.raises(DamageError, match="layers"):
            same(model, {**tensors, "patch_ranks": torch.tensor(ranks)})
    with pytest.raises(DamageError, match="ranks"):
        same(model, {**tensors, "patch_ranks": tensors["patch_ranks"].float()})


def test_a_compacted_cache_without_its_length_or_masses_is_not_taken_for_an_exact_one() -> None:
    model, tensors = hybrid("mistral", 16)
    for name in ("bias", "length", "positions"):
        left = {n: t for n, t in tensors.items() if n != name and not n.startswith("patch")}
        with pytest.raises(DamageError, match=WORDS.get(name, name)):
            same(model, left, "kv")


@pytest.mark.parametrize("target", TARGETS)
def test_an_id_goes_by_the_targets_own_settings_and_no_others(
    model: LanguageModel, target: str
) -> None:
    """Of kv for one: another --rank is the same artifact, another --factor is not."""
    assert OTHERS.keys() == {field.name for field in fields(TargetConfig)}
    own = {"kv": {"factor", "budget", "bits", "refine"}}
    own["text"] = {"rate", "target_tokens", "section", "duplicates"}
    own["weights"] = {"bits", "rank", "budget_bytes", "strength", "refine"}
    own["hybrid"] = own["weights"] | {"factor", "budget"}

    def address(**settings: Any) -> str:
        config = Config(targets=TargetConfig(**settings))
        return Work(PROMPT, None, model, config).address(targets.get(target))

    changed = {name for name, value in OTHERS.items() if address(**{name: value}) != address()}
    assert changed == own[target]
    assert len({address(**{name: OTHERS[name]}) for name in own[target]}) == len(own[target])
    assert address(factor=4) == address(factor=4.0)  # equal settings
    how = {name: OTHERS[name] for name in ("ranking", "protect", "force", "duplicates")}
    differ = {n for n, v in how.items() if address(rate=0.5, **{n: v}) != address(rate=0.5)}
    # Of a text these count once there is a rate; near repetitions go by default then.
    assert differ == (set(how) - {"duplicates"} if target == "text" else set())


@pytest.mark.parametrize("target", TARGETS)
def test_an_id_goes_by_the_probes_to_fit_on_where_anything_is_fitted(
    model: LanguageModel, target: str
) -> None:
    def address(given: tuple[Probe, ...], fit: tuple[Probe, ...], **settings: Any) -> str:
        config = Config(targets=TargetConfig(**settings))
        return Work(PROMPT, given, model, config, fit).address(targets.get(target))

    one, two = (Probe("When?"),), (Probe("Why?"),)
    assert (address(one, two) != address(one, ())) == (target in ("weights", "hybrid"))
    assert (address(one, two, factor=4.0) != address(one, (), factor=4.0)) == (target != "text")
    assert address(one, ()) != address(two, ())
    assert len({address((), one), address(one, ()), address(one, one)}) >= 2
    ids = [Work(PROMPT, one, model, Config()).address(targets.get(t)) for t in TARGETS]
    assert len(set(ids)) == len(TARGETS)


@pytest.mark.parametrize("bits", [16, 8])
def test_a_rank_of_nothing_is_written_and_read_as_no_change(known: Compilation, bits: int) -> None:
    """An artifact of weights that validation has left out is whole all the same."""
    built = build(known, "weights", strength=0.0, bits=bits)
    assert built.tensors["patch_ranks"].tolist() == [[0, 0]]
    attached = targets.get("weights").attach(known.model, built.tensors)
    assert attached.patch is not None
    assert not attached.patch.deltas[0](torch.ones(2, known.model.card.intermediate)).any()


def test_probes_to_fit_on_and_to_measure_on_never_overlap() -> None:
    """Whatever the user gives twice, the model repeats, or is asked about a passage."""
    studied = Compilation(parse(PROMPT), tiny(), Config(probes=PROBES)).fitting
    held_out = (*map(Probe, QUERIES), *studied[:4], *studied[-2:])
    fit_queries = (Probe("When?"), Probe("Who?"), studied[0], studied[8])
    for queries in (held_out, ()):
        made = Compilation(parse(PROMPT), tiny(), Config(probes=PROBES), queries, fit_queries)
        assert not set(made.fitting) & set(made.probes)
        assert len(set(made.fitting)) == len(made.fitting)
        assert Probe("Who?") in made.fitting
        for asked in (True, False):  # of either kind some are for choosing
            validation = [row.validation for row in made.rows if row.asked == asked]
            assert sum(validation) == len(validation) // VALIDATION_EVERY[asked]


def test_too_few_probes_to_fit_on_are_refused_with_what_to_do() -> None:
    few = Config(probes=replace(PROBES, fitting=3))
    with pytest.raises(InputError, match="fitting"):
        build(Compilation(parse(PROMPT), tiny(), few, (Probe("x"),)), "weights")


def test_what_no_fitting_probe_asks_about_is_measured_apart(known: Compilation) -> None:
    teacher, prefix = fidelity.reference(known, known.probes), nothing(known.model)
    whole = fidelity.measure(known.model, prefix, teacher)
    assert (whole.kl_uncovered, whole.agreement_uncovered, whole.probes_uncovered) == (
        None,
        None,
        0,
    )
    apart = fidelity.measure(known.model, prefix, teacher, uncovered=[0, 2])
    tokens = [len(answer.tokens) for answer in teacher.answers]
    alone = [
        fidelity.measure(known.model, prefix, fidelity.reference(known, [known.probes[i]]))
        for i in (0, 2)
    ]
    want = (alone[0].kl * tokens[0] + alone[1].kl * tokens[2]) / (tokens[0] + tokens[2])
    assert apart.kl_uncovered == pytest.approx(want, rel=1e-3)
    assert (apart.kl, apart.probes_uncovered) == (whole.kl, 2)
