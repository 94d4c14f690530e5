"""Words: the same tokens as the tokenizer's own, whatever the text, and each word only once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pcompiler.passes.words import Words, splits

TEXT = "It isn't 12 km to Zürich, is it?\n\n  - No: 文字 and e\u0301 (a_b).\r\n\tYes “it” is.  " * 9
PIECES = st.sampled_from(
    [
        *"abz09.,'’(\n\t\r\x0b\x1c\x85\xa0\u2003\u2028\u200d文👍\u0301Éß",
        " ",
        " ",
        " ",
        "  ",
        " 1",
        "'s",
    ]
)
LLAMA = Regex(
    r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(before: Any, normalizer: Any = None) -> Tokenizer:
    """A small BPE that has learnt merges from the text."""
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    if before is not None:
        tokenizer.pre_tokenizer = before
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["?"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def like_gpt2() -> Tokenizer:
    return trained(pre_tokenizers.ByteLevel(add_prefix_space=False))


def like_smollm2() -> Tokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return trained(
        pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    )


def like_llama3() -> Tokenizer:
    split = pre_tokenizers.Split(LLAMA, "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return trained(pre_tokenizers.Sequence([split, byte_level]), normalizers.NFC())


def unsplit() -> Tokenizer:
    return trained(None, normalizers.Replace(" ", "▁"))


def prefixed() -> Tokenizer:
    return trained(pre_tokenizers.Metaspace(prepend_scheme="first"))


@pytest.mark.parametrize(
    ("make", "by_words"),
    [
        (like_gpt2, True),
        (like_smollm2, True),
        (like_llama3, True),
        (unsplit, False),
        (prefixed, True),
        (lambda: byte_tokenizer().backend_tokenizer, None),
    ],
    ids=["gpt2", "smollm2", "llama3", "unsplit", "prefixed", "bytes"],
)
def test_tokens_are_those_of_the_tokenizer(
    make: Callable[[], Tokenizer], by_words: bool | None
) -> None:
    tokenizer = make()
    words = Words(tokenizer)
    assert by_words in (splits(tokenizer), None)

    @settings(deadline=None, max_examples=150)
    @given(st.lists(PIECES, max_size=40).map("".join))
    def agrees(text: str) -> None:
        for shown in (text, TEXT + text, text + TEXT):
            ends = [end for _, end in tokenizer.encode(shown, add_special_tokens=False).offsets]
            assert words.counts([shown]) == [len(ends)]
            assert words.ends(shown).tolist() == ends

    agrees()


def test_an_added_token_with_a_blank_in_it_is_never_torn() -> None:
    tokenizer = like_gpt2()
    tokenizer.add_tokens(["is it"])
    assert not splits(tokenizer)
    assert Words(tokenizer).counts([TEXT]) == [len(tokenizer.encode(TEXT).ids)]


def test_nothing_has_no_tokens() -> None:
    words = Words(like_gpt2())
    assert words.counts([]) == []
    assert words.counts(["", "a"]) == [0, 1]
    assert np.array_equal(words.ends(""), np.zeros(0))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcompiler.passes.words.MOST_WORDS", 20)
    tokenizer = like_gpt2()
    words = Words(tokenizer)
    for number in range(50):
        text = f"the word {number} is new, {number * 7} too"
        assert words.counts([text]) == [len(tokenizer.encode(text).ids)]
        assert len(words) <= 20 + 9
