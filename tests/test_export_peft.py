"""An exported patch does in PEFT what it does here."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import tiny
from exports import (
    PROMPT,
    ROUNDING,
    RunReadme,
    apart,
    artifact_of,
    check_readme,
    compacted,
    ours,
    query_ids,
    random_patch,
    save,
)
from peft import PeftModel
from transformers import AutoModelForCausalLM

from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig
from pcompiler.errors import InputError
from pcompiler.export.base import Request, write
from pcompiler.model import LanguageModel
from pcompiler.runtime.patch import Patch
from pcompiler.runtime.prefix import nothing

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # PEFT's
FAMILY = pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2"])


@FAMILY
def test_a_patch_gives_the_same_logits_in_peft(
    family: str, tmp_path: Path, run_readme: RunReadme
) -> None:
    saved = save(tiny(family), tmp_path / "model")
    patch = random_patch(saved, {0: 3, 2: 5})
    artifact = artifact_of(saved, "weights", replace(nothing(saved), patch=patch))
    exported = write(Request(artifact), "peft", tmp_path / "out")
    assert exported.facts == {"ranks": {"0": 3, "2": 5}, "bias": "lora_bias"}
    names = run_readme(tmp_path / "out")  # warnings are errors here
    check_readme(names, saved, artifact)
    bare = saved.hf(names["query"]).logits[0]
    assert apart(ours(saved, artifact, query_ids(saved)), bare) > 1e-2  # it does something
    merged = names["model"].merge_and_unload()
    theirs = merged(names["query"]).logits[0]
    assert apart(theirs, ours(saved, artifact, query_ids(saved))) < 1e-5


def test_plain_peft_loads_it_too_and_warns_of_merging_only(
    model: LanguageModel, tmp_path: Path, model_folder: Path
) -> None:
    patch = random_patch(model, {0: 2, 1: 2, 2: 2})
    artifact = artifact_of(model, "weights", replace(nothing(model), patch=patch))
    write(Request(artifact), "peft", tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    with pytest.warns(UserWarning, match="merging LoRA weights won't be possible") as told:
        loaded = PeftModel.from_pretrained(base, str(tmp_path / "out"))
    ours_to_explain = [str(w.message) for w in told if w.category is not FutureWarning]
    assert all("merging" in message for message in ours_to_explain)
    ids = query_ids(model)
    assert apart(loaded(torch.tensor([ids])).logits[0], ours(model, artifact, ids)) < ROUNDING


def test_a_layer_with_a_bias_alone_and_one_with_nothing_load(
    model: LanguageModel, tmp_path: Path, model_folder: Path, run_readme: RunReadme
) -> None:
    deltas = dict(random_patch(model, {0: 0, 1: 2, 2: 0}).deltas)
    deltas[2] = replace(deltas[2], bias=torch.zeros_like(deltas[2].bias))
    named = replace(model, name=str(model_folder))
    artifact = artifact_of(named, "weights", replace(nothing(model), patch=Patch(deltas)))
    exported = write(Request(artifact), "peft", tmp_path / "out")
    assert exported.facts["ranks"] == {"0": 1, "1": 2}
    check_readme(run_readme(tmp_path / "out"), named, artifact)


def test_without_its_bias_a_patch_merges_anywhere_and_is_another_patch(
    model: LanguageModel, tmp_path: Path, model_folder: Path
) -> None:
    patch = random_patch(model, {0: 2, 1: 2, 2: 2})
    artifact = artifact_of(model, "weights", replace(nothing(model), patch=patch))
    exported = write(Request(artifact, bias=False), "peft", tmp_path / "out")
    assert exported.facts["bias"] == "dropped"
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    loaded = PeftModel.from_pretrained(base, str(tmp_path / "out")).merge_and_unload()
    rest = {i: replace(d, bias=torch.zeros_like(d.bias)) for i, d in patch.deltas.items()}
    unbiased = artifact_of(model, "weights", replace(nothing(model), patch=Patch(rest)))
    ids = query_ids(model)
    theirs = loaded(torch.tensor([ids])).logits[0]
    assert apart(theirs, ours(model, unbiased, ids)) < 1e-5
    assert apart(theirs, ours(model, artifact, ids)) > 1e-2


def test_dropping_the_bias_of_a_fitted_patch_costs_what_the_bias_gave(
    model: LanguageModel, config: Config, tmp_path: Path, model_folder: Path
) -> None:
    """KL from the full prompt on the artifact's own probes, with PEFT's logits in ours' place."""
    settings = replace(config, probes=ProbeConfig(3, fitting=24, query_tokens=8, answer_tokens=6))
    with Compiler(model=model, config=settings) as compiler:
        done = compiler.compile(PROMPT, target="weights", rank=4, strength=1.0)
        artifact = compiler.store.get(done.id)
        assert compiler._work is not None
        reference = compiler._work.reference
    cost = {}
    for name, keep in (("kept", True), ("dropped", False)):
        write(Request(artifact, bias=keep), "peft", tmp_path / name)
        base = AutoModelForCausalLM.from_pretrained(model_folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            student = PeftModel.from_pretrained(base, str(tmp_path / name))
        total = 0.0
        for ids, answer in zip(reference.bare, reference.answers, strict=True):
            text = torch.tensor([[*ids, *answer.tokens[:-1]]])
            q = student(text).logits[0, -len(answer.tokens) :].log_softmax(-1)
            assert answer.log_p is not None
            total += float((answer.log_p.exp() * (answer.log_p - q)).sum())
        cost[name] = total / reference.answer_tokens
    assert cost["kept"] == pytest.approx(done.fidelity.kl, rel=1e-4)
    assert cost["dropped"] > cost["kept"] * 1.01


def test_a_hybrids_patch_is_exported_only_when_half_is_asked_for(
    model: LanguageModel, tmp_path: Path
) -> None:
    artifact = artifact_of(model, "hybrid", compacted(model, random_patch(model, {1: 2})))
    with pytest.raises(InputError, match=r"not the artifact.*transformers.*--patch-only"):
        write(Request(artifact), "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    exported = write(Request(artifact, patch_only=True), "peft", tmp_path / "out")
    assert "not the artifact" in exported.notes[0]
    assert exported.notes[0] in (tmp_path / "out" / "README.md").read_text()


def test_an_empty_patch_is_not_exported(model: LanguageModel, tmp_path: Path) -> None:
    patch = random_patch(model, {0: 0}, size=0.0)
    artifact = artifact_of(model, "weights", replace(nothing(model), patch=patch))
    with pytest.raises(InputError, match="no patch to export"):
        write(Request(artifact), "peft", tmp_path / "out")


@pytest.mark.model
def test_a_patch_of_the_real_model_gives_the_same_logits_in_peft(
    smollm2: LanguageModel, tmp_path: Path, run_readme: RunReadme
) -> None:
    patch = random_patch(smollm2, dict.fromkeys(range(smollm2.card.layers), 8), 0.02)
    artifact = artifact_of(smollm2, "weights", replace(nothing(smollm2), patch=patch))
    write(Request(artifact), "peft", tmp_path / "out")
    names = run_readme(tmp_path / "out")
    ids = query_ids(smollm2)
    with torch.no_grad():
        theirs = names["model"](names["query"]).logits[0]
    assert apart(theirs, ours(smollm2, artifact, ids)) < 1e-5
