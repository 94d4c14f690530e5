"""Texts to embed: real sentences and paragraphs of about a length, from Python's own manual."""

from __future__ import annotations

import random
import re

from tokenizers import Tokenizer

SHORT, LONG = 16, 128  # tokens, both ends included, about


def texts(tokenizer: Tokenizer, tokens: int, count: int, seed: int = 0) -> list[str]:
    """Texts of so many tokens on average, all different, drawn from running text.

    Args:
        tokenizer: counts the tokens.
        tokens: of all on average, both ends included; one has from half to one and a half of it.
        count: how many.
        seed: of the draw.
    """
    from pydoc_data.topics import topics

    words = re.sub(r"\s+", " ", " ".join(topics.values())).split(" ")
    pick = random.Random(seed)  # noqa: S311 - a draw, no secret
    found: dict[str, None] = {}
    while len(found) < count:
        size = pick.randint(tokens // 2, tokens + tokens // 2)
        start = pick.randrange(len(words) - size)
        text = _cut(tokenizer, words[start : start + size], size - 2)
        if text.strip():
            found[text] = None
    return list(found)


def _cut(tokenizer: Tokenizer, words: list[str], tokens: int) -> str:
    """As many of the words as have about so many tokens."""
    text = " ".join(words)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ends = encoding.offsets
    return text[: ends[min(tokens, len(ends)) - 1][1]]


def zipf(distinct: int, count: int, seed: int = 0) -> list[int]:
    """Which of the distinct texts is asked for each time: the r-th as often as 1/r.

    Returns:
        ``count`` numbers below ``distinct``.
    """
    pick = random.Random(seed)  # noqa: S311
    weights = [1 / rank for rank in range(1, distinct + 1)]
    return pick.choices(range(distinct), weights, k=count)
