"""Words that are remembered have the tokens that the tokenizer gives them in their text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from pcompiler.embed import words
from pcompiler.embed.words import Words

PIECES = (
    *("the", "quick", "brown", "fox", "##es", "##ing", "run", "jump", ".", ",", "!", "'", "-"),
    *("é", "e", "中", "文", "[UNK]", "a", "b", "c", "##a", "##b", "##c"),
)
ODD = " \t\n\r\f\v\x00\x1c\x1d\x1f\x85\xa0\u2028\u3000\u200b\u0301\ufeffé中[SEP]a.'"


def bert(*added: str) -> Tokenizer:
    vocabulary = {piece: i for i, piece in enumerate([*PIECES, "[CLS]", "[SEP]"])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=20))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens([AddedToken("[SEP]"), *map(AddedToken, added)])
    return made


def whole(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.text(st.sampled_from(ODD + "theqfoxs") | st.characters(codec="utf-8")), max_size=4)
)
def test_tokens_word_by_word_are_those_of_the_whole_text(texts: list[str]) -> None:
    tokenizer = bert()
    remembering = Words(tokenizer)
    assert remembering.are_apart
    for _ in range(2):  # made, then looked up
        assert remembering.ids(texts) == whole(tokenizer, texts)


def test_it_forgets_before_it_takes_more_room_and_is_right_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words, "MOST_WORDS", 20)
    pick, tokenizer = random.Random(0), bert()
    remembering = Words(tokenizer)
    for _ in range(50):
        text = " ".join("".join(pick.choices("abcthe.", k=3)) for _ in range(30)) + " " + "a" * 90
        assert remembering.ids([text]) == whole(tokenizer, [text])
        assert len(remembering._known) <= 30


def test_tokenizers_whose_words_are_not_apart_are_asked_text_by_text() -> None:
    spaced = bert("the quick")
    assert not Words(spaced).are_apart
    assert Words(spaced).ids(["so the quick fox"]) == whole(spaced, ["so the quick fox"])
    bytewise = Tokenizer(models.BPE(vocab={"a": 0, "Ġ": 1}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert Words(bytewise).ids(["a a"]) == whole(bytewise, ["a a"]) == [[0, 1, 0]]
