"""Tokens of texts, word by word: those of a word that came before are looked up.

BERT's tokenizer cleans and splits at blanks before anything else, so what stands between two
blanks has the same tokens wherever it stands; others, which take a blank into the next word, are
asked text by text. Most words of a text are common ones: it is several times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from tokenizers import AddedToken, Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

MOST_WORDS = 32_768  # known at once: some 8 MB
LONGEST = 32  # characters; longer ones hardly come again


class Words:
    """A tokenizer that remembers words; may be shared by threads.

    Args:
        tokenizer: without truncation and padding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.are_apart = (
            isinstance(tokenizer.normalizer, BertNormalizer)
            and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            and not any(set(" \n") & set(t.content) for t in _added(tokenizer))
        )
        self._known: dict[str, tuple[int, ...]] = {}

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, as the tokenizer gives them."""
        if not self.are_apart:
            return self._encoded(texts)
        # No other white space: the tokenizer drops some of what Python takes for it.
        return [self._of_words(text.replace("\n", " ").split(" ")) for text in texts]

    def _of_words(self, words: Sequence[str]) -> list[int]:
        known = self._known
        try:
            return list(chain.from_iterable([known[word] for word in words]))
        except KeyError:
            pass
        new = list({word: None for word in words if word not in known})
        made = dict(zip(new, map(tuple, self._encoded(new)), strict=True))
        if len(known) + len(made) > MOST_WORDS:
            known = self._known = {}
        known.update((word, ids) for word, ids in made.items() if len(word) <= LONGEST)
        return [i for word in words for i in (made.get(word) or known.get(word) or self._of(word))]

    def _of(self, word: str) -> tuple[int, ...]:
        """Of a word that was forgotten meanwhile, or that has no tokens."""
        return tuple(self._encoded([word])[0])

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]


def _added(tokenizer: Tokenizer) -> Iterable[AddedToken]:
    """Tokens that are looked for before a text is split."""
    found: dict[int, AddedToken] = tokenizer.get_added_tokens_decoder()
    return found.values()
