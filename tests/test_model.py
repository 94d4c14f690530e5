"""Models: which are taken, what their fingerprint sees, and where names lead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import FAMILY_EXTRAS, byte_tokenizer, tiny
from transformers import GPT2Config, GPT2LMHeadModel

from pcompiler.device import available, pick
from pcompiler.errors import DeviceError, ModelError
from pcompiler.families import FAMILIES
from pcompiler.model import LanguageModel


def test_every_family_is_under_test() -> None:
    assert set(FAMILY_EXTRAS) == set(FAMILIES)


def test_equal_models_have_equal_fingerprints_and_a_folder_keeps_it(
    model: LanguageModel, model_folder: Path
) -> None:
    assert tiny().card == model.card
    assert LanguageModel.load(str(model_folder), "cpu").card == model.card


def test_one_changed_weight_changes_the_fingerprint(model: LanguageModel) -> None:
    other = tiny()
    with torch.no_grad():
        other.hf.model.layers[1].mlp.down_proj.weight[3, 5] += 1e-6
    changed = LanguageModel.from_objects(other.hf, other.tokenizer, other.device)
    assert changed.card.fingerprint != model.card.fingerprint
    assert "weights" in changed.card.differences(vars(model.card))[0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, "settings"),
        ({"num_hidden_layers": 2}, "layers"),
    ],
)
def test_what_the_weights_do_not_show_is_in_the_fingerprint(
    model: LanguageModel, change: dict[str, object], field: str
) -> None:
    differences = tiny(**change).card.differences(vars(model.card))
    assert any(d.startswith(field) for d in differences)


def test_dtype_and_tokenizer_are_in_the_fingerprint(model: LanguageModel) -> None:
    half = LanguageModel.from_objects(tiny().hf, byte_tokenizer(), pick("cpu", "bfloat16"))
    assert any(d.startswith("dtype") for d in half.card.differences(vars(model.card)))
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["extra"])
    other = LanguageModel.from_objects(tiny().hf, tokenizer, pick("cpu"))
    assert [d.split()[0] for d in other.card.differences(vars(model.card))] == ["tokenizer"]


def test_a_model_of_another_kind_is_refused_with_the_families_that_work(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    gpt2 = GPT2LMHeadModel(config)
    with pytest.raises(ModelError, match=r"gpt2.*llama, mistral"):
        LanguageModel.from_objects(gpt2, byte_tokenizer(), pick("cpu"))
    gpt2.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"gpt2.*llama, mistral"):
        LanguageModel.load(str(tmp_path), "cpu")


@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "./missing", ""])
def test_an_unknown_name_says_what_can_be_given(name: str) -> None:
    with pytest.raises(ModelError, match="smollm2"):
        LanguageModel.load(name, "cpu")


def test_pickled_weights_are_not_loaded(tmp_path: Path, model: LanguageModel) -> None:
    model.hf.config.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    torch.save(model.hf.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError):
        LanguageModel.load(str(tmp_path), "cpu")


def test_the_device_is_chosen_once_with_its_reason() -> None:
    device = pick("auto")
    assert str(device.handle) == available()[0]
    assert "best of" in device.reason
    assert pick("cpu").dtype is torch.float32
    assert pick("cpu", "bfloat16").dtype is torch.bfloat16


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "CPU", ""])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match="cpu"):
        pick(name)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(DeviceError, match="float32"):
        pick("cpu", "int8")
