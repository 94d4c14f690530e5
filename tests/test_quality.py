"""How a text stands to its original: real sacrebleu, real forward passes of a tiny model."""

from __future__ import annotations

import math
import random

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_encoder import tiny_encoder

from pcompiler.embed.encoder import Encoder
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.quality import bleu, measure, perplexity, perplexity_loss

TEXT = (
    "Delivery inside Germany costs 39 EUR and takes 5 to 7 working days.\n"
    "A customer may return a bicycle within 30 days of delivery.\n"
    "Batteries that have been opened cannot be returned.\n"
    "The refund is paid within 10 working days after the bicycle has arrived."
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return tiny_encoder()


@pytest.mark.parametrize("text", [TEXT, "", " ", "a", ".", "🎉", "\0", "退款需要批准"])
def test_an_identical_text_has_a_bleu_of_one(text: str) -> None:
    assert bleu(text, text) == 1.0


def test_shortening_costs_bleu_through_the_brevity_penalty() -> None:
    words = TEXT.split()
    scores = [bleu(TEXT, " ".join(words[: len(words) * k // 10])) for k in range(11)]
    assert scores == sorted(scores)
    assert scores[0] == 0.0
    assert scores[5] == pytest.approx(math.exp(1 - 1 / 0.5), abs=0.05)
    assert scores[10] == pytest.approx(1.0)  # line ends do not count


def test_replaced_words_cost_bleu_and_unrelated_texts_have_next_to_none() -> None:
    replaced = TEXT.replace("bicycle", "bike")
    assert 0.7 < bleu(TEXT, replaced) < 1.0
    assert bleu(TEXT, "Bake the cake slowly, then let it cool on a rack. " * 4) < 0.05
    assert bleu("", TEXT) == 0.0


def test_bleu_is_over_characters_where_there_are_few_spaces() -> None:
    original = "退款需要经理批准，并且在十个工作日内付款。工作坊在星期日和公共假期关闭。"
    assert bleu(original, original.replace("十个", "五个")) > 0.8
    assert bleu(original, "今天天气很好我们去公园散步吧") < 0.2


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_perplexity_is_what_transformers_has_as_its_loss(family: str) -> None:
    model = tiny(family)
    ids = model.tensor(model.tokenizer.encode(TEXT))
    with torch.no_grad():
        loss = float(model.hf(input_ids=ids, labels=ids).loss)
    assert perplexity(model, TEXT) == pytest.approx(math.exp(loss), rel=1e-4)


def test_past_the_window_each_token_is_scored_once_with_half_a_window_before_it() -> None:
    model = tiny(max_position_embeddings=64)
    ids = model.tokenizer.encode(TEXT)
    nats = []
    for i in range(1, len(ids)):
        block = max(0, (i - 64) // 32 + 1) * 32  # windows begin 32 apart, and i is in the first
        with torch.no_grad():
            logits = model.hf(input_ids=model.tensor(ids[block:i])).logits[0, -1]
        nats.append(-float(logits.log_softmax(-1)[ids[i]]))
    wanted = math.exp(sum(nats) / len(nats))
    assert perplexity(model, TEXT) == pytest.approx(wanted, rel=1e-4)


def test_an_unpredictable_text_has_a_higher_perplexity_to_a_model_that_learned_the_other() -> None:
    model = tiny()
    ids = model.tensor(model.tokenizer.encode(TEXT))
    model.hf.requires_grad_(True)
    optimizer = torch.optim.Adam(model.hf.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        model.hf(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.hf.requires_grad_(False)
    shuffled = "".join(random.Random(0).sample(TEXT, len(TEXT)))
    assert perplexity_loss(model, TEXT, shuffled) > 0.5
    assert perplexity_loss(model, shuffled, TEXT) < 0
    assert perplexity_loss(model, TEXT, TEXT) == 0.0


def test_perplexity_takes_odd_texts_and_refuses_those_without_a_prediction(
    model: LanguageModel,
) -> None:
    for odd in ("\0\0", "🎉", "\ud800a", "退款"):
        assert perplexity(model, odd) > 1
    for short in ("", "a"):
        with pytest.raises(InputError, match="two tokens"):
            perplexity(model, short)


def test_all_measures_together(model: LanguageModel, encoder: Encoder) -> None:
    half = measure(model, encoder, TEXT, TEXT[: len(TEXT) // 2])
    assert half.saved_tokens == pytest.approx(0.5, abs=0.01)
    assert half.saved_bytes == pytest.approx(0.5, abs=0.01)
    assert 0 < half.bleu < 0.6
    assert half.perplexity_loss is not None
    assert not half.identical


def test_an_identical_text_lost_nothing(model: LanguageModel, encoder: Encoder) -> None:
    same = measure(model, encoder, TEXT, TEXT)
    assert (same.saved_tokens, same.saved_bytes, same.perplexity_loss) == (0, 0, 0)
    assert (same.bleu, same.identical) == (1.0, True)


def test_what_cannot_be_measured_is_none(model: LanguageModel, encoder: Encoder) -> None:
    gone = measure(model, encoder, "refunds", "")
    assert (gone.saved_tokens, gone.bleu, gone.cosine) == (1.0, 0.0, 0.0)
    assert gone.perplexity_loss is None
    unknown = measure(model, encoder, "退款需要批准", "订单已经取消")
    assert unknown.cosine is None
    assert unknown.saved_tokens == 0
    with pytest.raises(InputError, match="original is empty"):
        measure(model, encoder, "", "text")


@pytest.mark.model
def test_the_real_model_finds_shuffled_words_less_natural(smollm2: LanguageModel) -> None:
    words = TEXT.split()
    shuffled = " ".join(random.Random(0).sample(words, len(words)))
    assert perplexity(smollm2, TEXT) < 30
    assert perplexity_loss(smollm2, TEXT, shuffled) > 3
