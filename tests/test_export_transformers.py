"""An exported cache does in plain transformers what it does here: the READMEs' code is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from exports import (
    PROMPT,
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

from pcompiler.export.base import Request, write
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import prefill

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # PEFT's
FAMILY = pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2"])


@FAMILY
@pytest.mark.parametrize("bits", [8, 16])
def test_an_exact_cache_goes_on_in_transformers(
    family: str, tmp_path: Path, run_readme: RunReadme, bits: int
) -> None:
    saved = save(tiny(family), tmp_path / "model")
    exact = prefill(saved, saved.tokenizer.encode(PROMPT, add_special_tokens=False))
    artifact = artifact_of(saved, "kv", exact, bits)
    exported = write(Request(artifact), "transformers", tmp_path / "out")
    assert exported.facts == {"kept": exact.kept, "length": exact.length, "compacted": False}
    check_readme(run_readme(tmp_path / "out"), saved, artifact)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_compacted_cache_goes_on_in_transformers_of_every_family(
    family: str, tmp_path: Path, run_readme: RunReadme
) -> None:
    saved = save(tiny(family), tmp_path / "model")
    artifact = artifact_of(saved, "kv", compacted(saved))
    write(Request(artifact), "transformers", tmp_path / "out")
    check_readme(run_readme(tmp_path / "out"), saved, artifact)


@FAMILY
def test_both_halves_of_a_hybrid_go_on_in_transformers_and_peft(
    family: str, tmp_path: Path, run_readme: RunReadme
) -> None:
    saved = save(tiny(family), tmp_path / "model")
    artifact = artifact_of(saved, "hybrid", compacted(saved, random_patch(saved, {0: 2, 2: 2})))
    exported = write(Request(artifact), "transformers", tmp_path / "out")
    assert set(exported.files) == {
        *("README.md", "cache.safetensors"),
        *("patch/adapter_config.json", "patch/adapter_model.safetensors"),
    }
    check_readme(run_readme(tmp_path / "out"), saved, artifact)


def test_a_hybrid_whose_patch_was_of_no_use_is_its_cache(
    model: LanguageModel, tmp_path: Path
) -> None:
    artifact = artifact_of(model, "hybrid", compacted(model, random_patch(model, {0: 0}, 0.0)))
    exported = write(Request(artifact), "transformers", tmp_path / "out")
    assert set(exported.files) == {"README.md", "cache.safetensors"}
    assert "peft" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.model
def test_a_compacted_cache_of_the_real_model_goes_on_in_transformers(
    smollm2: LanguageModel, tmp_path: Path, run_readme: RunReadme
) -> None:
    patch = random_patch(smollm2, {3: 8, 20: 4}, 0.02)
    artifact = artifact_of(smollm2, "hybrid", compacted(smollm2, patch))
    write(Request(artifact), "transformers", tmp_path / "out")
    names = run_readme(tmp_path / "out")
    with torch.no_grad():
        theirs = names["model"](names["query"], past_key_values=names["past"]()).logits[0]
    assert apart(theirs, ours(smollm2, artifact, query_ids(smollm2))) < 1e-5
