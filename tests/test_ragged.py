"""Encoders without padding, in other precisions, and by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_encoder import texts, tiny_encoder
from transformers import RobertaConfig, RobertaModel

from pcompiler.device import pick
from pcompiler.embed.base import Documents, Provider
from pcompiler.embed.encoder import Encoder
from pcompiler.embed.ragged import Ragged, faster
from pcompiler.errors import ConfigError, InputError, ModelError


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return tiny_encoder()


def saved(encoder: Encoder, folder: Path, **files: Any) -> Path:
    """The encoder as a folder that others publish, with more settings beside it."""
    encoder.hf.save_pretrained(folder)
    encoder.tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return folder


def padded(encoder: Encoder, every: list[str]) -> torch.Tensor:
    first, last = encoder.ends
    rows = [[first, *ids[: encoder.window - 2], last] for ids in encoder._ids(every)]
    with torch.inference_mode():
        return torch.nn.functional.normalize(encoder._padded(rows), dim=-1)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_without_padding_the_vectors_are_those_of_transformers(pooling: str) -> None:
    every, encoder = texts(40), replace(tiny_encoder(), pooling=pooling)
    assert encoder.is_ragged
    torch.testing.assert_close(encoder.encode(every), padded(encoder, every), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.999), ("int8", 0.97)])
def test_other_precisions_are_near_and_have_a_fingerprint_of_their_own(
    tiny: Encoder, precision: str, least: float
) -> None:
    other = replace(tiny, precision=precision)
    cosines = (other.encode(texts(40)) * tiny.encode(texts(40))).sum(1)
    assert least < cosines.min() < 1 - 1e-7
    assert other.fingerprint != tiny.fingerprint
    assert isinstance(faster(tiny.hf, precision), bool)


def test_the_fingerprint_goes_with_whatever_changes_a_vector(tiny: Encoder) -> None:
    assert tiny.fingerprint == tiny_encoder().fingerprint
    others = (tiny_encoder(window=8), replace(tiny, pooling="first"))
    assert len({tiny.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_an_encoder_is_a_provider_of_texts_and_of_documents(tiny: Encoder) -> None:
    assert isinstance(tiny, Provider)
    assert isinstance(tiny, Documents)
    every = ["abc", "abcdefghijklmnopqrstuvwxyz", ""]
    assert tiny.embed(every).dtype == np.float32
    np.testing.assert_array_equal(tiny.embed(every), tiny.encode(every).numpy())
    for row, text in zip(tiny.embed_documents(every), every, strict=True):
        np.testing.assert_allclose(row, tiny.encode_document(text).numpy(), atol=1e-6)
    assert tiny.embed_documents([]).shape == (0, 16)


@pytest.mark.parametrize("given", ["abc", ["abc", 3], [None], 7])
def test_what_is_not_a_list_of_texts_is_refused(tiny: Encoder, given: Any) -> None:
    with pytest.raises(InputError, match=r"list of texts|text \d is of type"):
        tiny.embed(given)


def test_a_text_of_a_megabyte_is_read_to_its_end(tiny: Encoder) -> None:
    megabyte = "abcdefgh " * (2**20 // 9)
    (vector,) = tiny.embed_documents([megabyte])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(tiny.embed([megabyte]), tiny.embed([megabyte[:200]]))


def test_a_folder_says_how_its_encoder_is_used(tiny: Encoder, tmp_path: Path) -> None:
    plain = saved(tiny, tmp_path / "plain")
    np.testing.assert_allclose(
        Encoder.load("cpu", str(plain)).embed(texts(9)), tiny.embed(texts(9)), atol=1e-6
    )
    told = saved(
        tiny,
        tmp_path / "told",
        sentence_bert_config={"max_seq_length": 8},
        modules=[{"type": "sentence_transformers.models.Transformer"}],
        **{
            "1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        },
    )
    found = Encoder.load("cpu", str(told))
    assert (found.window, found.pooling) == (8, "first")
    newer = saved(tiny, tmp_path / "newer", **{"1_Pooling__config": {"pooling_mode": "mean"}})
    assert Encoder.load("cpu", str(newer)).pooling == "mean"


@pytest.mark.parametrize(
    "files",
    [
        {"1_Pooling__config": {"pooling_mode_max_tokens": True}},
        {"1_Pooling__config": {"pooling_mode": "lasttoken"}},
        {"modules": [{"type": "sentence_transformers.models.Dense"}]},
    ],
)
def test_an_encoder_that_makes_vectors_otherwise_is_refused(
    tiny: Encoder, tmp_path: Path, files: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=r"pooling_mode_max|lasttoken|Dense"):
        Encoder.load("cpu", str(saved(tiny, tmp_path, **files)))


def test_names_and_precisions_that_are_not_known_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="embedded"):
        Encoder.load("cpu", "no-such-encoder")
    with pytest.raises(ModelError, match="cannot load"):
        Encoder.load("cpu", str(tmp_path))
    with pytest.raises(ConfigError, match="bfloat16"):
        Encoder.load("cpu", precision="int4")


def test_an_encoder_that_is_no_bert_runs_through_transformers(tiny: Encoder) -> None:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    hf = RobertaModel(config, add_pooling_layer=False)
    other = Encoder.from_objects(hf, tiny.tokenizer, pick("cpu", "float32"), 16)
    assert not other.is_ragged
    one = torch.cat([other.encode([t]) for t in texts(9)])
    torch.testing.assert_close(other.encode(texts(9)), one)


@pytest.mark.model
def test_the_embedded_encoder_gives_the_vectors_of_transformers() -> None:
    encoder = Encoder.load("cpu")
    every = ["When do you open?", "A paragraph, with marks: 1, 2 and 3.", "word " * 300, "x"]
    torch.testing.assert_close(encoder.encode(every), padded(encoder, every), atol=1e-5, rtol=0)
    assert isinstance(encoder._ragged, Ragged)
