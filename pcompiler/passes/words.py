"""Tokens of texts, word by word: each different word is tokenized once, however often it comes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

# From a blank between two words to the next such blank; other whitespace splits nothing.
_WORD = re.compile(r"\s*\S+(?:(?! \S)\s+\S*)*|\s+")
MOST_WORDS = 2**17  # remembered; some 30 MB
_SAMPLE = "Ünë, it's  (2,024) a_b\tXY .\n\n\nnext 7\r\n - “q” 中文 日本 e\u0301 x\n  end ."


class Words:
    """A tokenizer that remembers words.

    Nearly all tokenizers split a text before they merge characters to tokens, and always between a
    word and the blank before the next one: what a word's tokens are, its neighbours do not change.
    Of others (see ``splits``), a whole text is taken for one word.

    Args:
        tokenizer: of the library tokenizers.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - the library has no stubs
        self._tokenizer = tokenizer
        self._splits = splits(tokenizer)
        self._ends: dict[str, tuple[int, ...]] = {}  # of a word's tokens, from where it begins

    def __len__(self) -> int:
        return len(self._ends)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, taken by itself."""
        found = [self._words(text) for text in texts]
        self._learn(chain.from_iterable(found))
        ends = self._ends
        return [sum([len(ends[word]) for word in words]) for words in found]

    def ends(self, text: str) -> np.ndarray:
        """(tokens,) where each token of a text ends, in characters."""
        words = self._words(text)
        self._learn(words)
        inner = [self._ends[word] for word in words]
        begins = np.cumsum([0, *map(len, words)], dtype=np.int64)[:-1]
        ends = np.fromiter(chain.from_iterable(inner), dtype=np.int64)
        return ends + np.repeat(begins, [len(of) for of in inner])

    def _words(self, text: str) -> list[str]:
        return _WORD.findall(text) if self._splits else [text]

    def _learn(self, words: Iterable[str]) -> None:
        """Tokenize what is new: all that has a blank before it and none after it as one text."""
        different = dict.fromkeys(words)
        if len(self._ends) > MOST_WORDS:
            self._ends.clear()
        new = [word for word in different if word not in self._ends]
        if not new:
            return
        inner = [word for word in new if _is_inner(word)] if self._splits else []
        alone = [word for word in new if not _is_inner(word)] if self._splits else new
        first, *others = self._tokenizer.encode_batch(
            ["".join(inner), *alone], add_special_tokens=False
        )
        ends = [end for _, end in first.offsets]
        begins = np.cumsum([0, *map(len, inner)])
        cuts = np.searchsorted(ends, begins, "right").tolist()
        for word, begin, a, b in zip(inner, begins.tolist(), cuts, cuts[1:], strict=False):
            self._ends[word] = tuple([end - begin for end in ends[a:b]])
        for word, found in zip(alone, others, strict=True):
            self._ends[word] = tuple([end for _, end in found.offsets])


def splits(tokenizer: Any) -> bool:  # noqa: ANN401
    """Whether a tokenizer splits between words, before it merges anything."""
    before = tokenizer.pre_tokenizer
    if before is None or any(
        " " in token.content or token.lstrip or token.rstrip
        for token in tokenizer.get_added_tokens_decoder().values()
    ):
        return False

    def parts(text: str) -> list[str]:
        tidy = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        return [part for part, _ in before.pre_tokenize_str(tidy)]

    words = _WORD.findall(_SAMPLE)
    return parts(_SAMPLE) == [part for word in words for part in parts(word)]


def _is_inner(word: str) -> bool:
    return word[0] == " " and not word[1:2].isspace() and not word[-1].isspace()
