"""Texts that say what an earlier text said: nearly in the same words, or in others.

Linear in practice (20,000 sentences of prose: under a second), quadratic at worst, on texts that
are all made of the same few words. Neither function knows what a number or a "not" means, and
"within 5 days" is nearly "within 6 days": the caller's ``allow`` refuses pairs that differ in
what counts.
"""

from __future__ import annotations

import heapq
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from pcompiler.errors import InputError

if TYPE_CHECKING:
    import torch

    from pcompiler.embed.encoder import Encoder

Allow = Callable[[str, str], bool]
"""(earlier text, later text) → whether the earlier one may stand for both."""

# Scripts that put no space between words: each of their characters is a word of its own.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED += "\uf900-\ufaff\U00020000-\U0003ffff"
_SOFT = r"\s.,;:!?…'\"“”„‘’«»()\[\]{}*`|~_、。，；：！？「」『』（）،؛؟"
_WORD = re.compile(f"[{_UNSPACED}]|[^{_SOFT}{_UNSPACED}]+")
_LONG_WORD = 24  # characters; beyond it, a text without spaces, an address, a blob
_PIECE = 5  # characters; with its neighbour six, so few that one typing error costs little
_ASKED = 100  # pairs at most that ``allow`` sees of a text: tables have thousands of like rows
_BLOCK = 256  # texts compared with all earlier ones at a time


def near_duplicates(
    texts: Sequence[str], threshold: float = 0.85, allow: Allow | None = None
) -> list[int | None]:
    """For each text the index of an earlier one that it nearly repeats word for word, or None.

    Two texts are as similar as the Jaccard index of their pairs of neighbouring words (case and
    sentence punctuation do not count): shared over all different pairs. Candidates come from
    prefix filtering (Bayardo et al. 2007, "Scaling up all pairs similarity search"): sets that
    similar must share one of their rarest pairs, and the rarest pairs are looked up by hash. It
    misses none, unlike MinHash, and draws no random numbers.

    The index is that of the most similar text among those that stay (that are None themselves):
    dropping all others leaves something near each. A blank text repeats none.

    Args:
        texts: any number of them.
        threshold: least similarity, above 0 and at most 1.
        allow: asked about pairs that are similar enough, the 100 most similar at most; a text
            all of whose pairs are refused stays.

    Raises:
        InputError: one string instead of several, or a threshold outside its range.
    """
    _check(texts, threshold)
    sets = _shingles(texts)
    rarity = Counter(chain.from_iterable(sets))
    shared = {shingle for shingle, times in rarity.items() if times > 1}
    kept_with: defaultdict[int, list[int]] = defaultdict(list)
    repeats: list[int | None] = []
    for i, mine in enumerate(sets):
        prefix = _prefix(len(mine), threshold)
        if len(mine) - len(mine & shared) >= prefix:  # its rarest are in no other
            repeats.append(None)
            continue
        # Ties are broken by number, the same for all, which prefix filtering rests on.
        rarest = sorted(mine, key=lambda s: (rarity[s], s))[:prefix]
        candidates = {j for shingle in rarest for j in kept_with[shingle]}
        scored = ((_jaccard(mine, sets[j], threshold), j) for j in candidates)
        similar = [(score, j) for score, j in scored if score >= threshold]
        repeats.append(_best(texts, i, similar, allow))
        if repeats[i] is None:
            for shingle in rarest:
                kept_with[shingle].append(i)
    return repeats


def semantic_duplicates(
    texts: Sequence[str],
    encoder: Encoder,
    threshold: float = 0.92,
    allow: Allow | None = None,
) -> list[int | None]:
    """What ``near_duplicates`` finds, and among the rest texts that say the same in other words.

    Similar is, for the rest, a cosine of embeddings of at least the threshold; what nearly repeats
    such a text, in words, goes with it. Texts that the encoder does not see all of are left out:
    those past its window, and those with a token that it has no meaning for. To it, two Chinese
    sentences of one length are the same. O(n²) for n texts that are left.

    Args:
        texts: any number of them, a sentence or a few each.
        encoder: the sentence encoder.
        threshold: least cosine, above 0 and at most 1.
        allow: as in ``near_duplicates``; "never" and "always" are near each other by cosine, too.

    Raises:
        InputError: one string instead of several, or a threshold outside its range.
    """
    _check(texts, threshold)
    repeats = near_duplicates(texts, allow=allow)
    read = encoder.reads(texts)
    left = [i for i, j in enumerate(repeats) if j is None and read[i]]
    vectors = encoder.encode([texts[i] for i in left])
    for i, near in zip(left, _near(vectors, threshold), strict=True):
        staying = [(cosine, left[k]) for cosine, k in near if repeats[left[k]] is None]
        repeats[i] = _best(texts, i, staying, allow)
    return [_followed(texts, repeats, i, allow) for i in range(len(texts))]


def _followed(
    texts: Sequence[str], repeats: Sequence[int | None], i: int, allow: Allow | None
) -> int | None:
    """What a text repeats, where that has found an earlier text to repeat itself."""
    j = repeats[i]
    if j is None or (first := repeats[j]) is None:
        return j
    return _best(texts, i, [(1.0, first)], allow)


def _check(texts: Sequence[str], threshold: float) -> None:
    if isinstance(texts, str) or not 0 < threshold <= 1:
        raise InputError(
            f"duplicates are looked for in a list of texts, with a threshold above 0 and at most "
            f"1; this one is {threshold}."
        )


def _best(
    texts: Sequence[str], i: int, similar: Iterable[tuple[float, int]], allow: Allow | None
) -> int | None:
    """The most similar allowed text; of equally similar ones the first."""
    for _, j in heapq.nsmallest(_ASKED, similar, key=lambda pair: (-pair[0], pair[1])):
        if allow is None or allow(texts[j], texts[i]):
            return j
    return None


def _shingles(texts: Sequence[str]) -> list[frozenset[int]]:
    """Of each text its pairs of neighbouring words, as numbers: no two pairs have the same."""
    numbers: dict[str, int] = {}
    found = []
    for text in texts:
        words = [numbers.setdefault(word, len(numbers)) for word in _words(text)]
        pairs = zip(words, words[1:] or [-1], strict=False)
        found.append(frozenset([(a << 32) + b for a, b in pairs]))
    return found


def _words(text: str) -> list[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    words: list[str] = _WORD.findall(text.casefold())
    if not words and text.strip():
        return [text.strip()]  # nothing but punctuation
    if max(map(len, words), default=0) <= _LONG_WORD:
        return words
    return [part for word in words for part in _parts(word)]


def _parts(word: str) -> list[str]:
    """Of a word too long for one, all runs of a few characters."""
    if len(word) <= _LONG_WORD:
        return [word]
    return [word[k : k + _PIECE] for k in range(len(word) - _PIECE + 1)]


def _prefix(size: int, threshold: float) -> int:
    """How many of the rarest elements hold one that any set similar enough shares."""
    # The epsilon takes back what 0.85 · 20 = 17.000000000000004 would round up to.
    return size - math.ceil(threshold * size - 1e-9) + 1


def _jaccard(a: frozenset[int], b: frozenset[int], threshold: float) -> float:
    """|a ∩ b| / |a ∪ b|, or 0 where the sizes alone rule the threshold out."""
    if min(len(a), len(b)) < threshold * max(len(a), len(b)):
        return 0.0
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _near(vectors: torch.Tensor, threshold: float) -> Iterator[list[tuple[float, int]]]:
    """Of each of (n, d) unit vectors the earlier ones that are near: (cosine, index)."""
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        # float32 may put the cosine of equal vectors beside 1.
        cosines = (block @ vectors[: start + _BLOCK].T).clamp(max=1.0)
        for row, values in enumerate(cosines):
            earlier = (values[: start + row] >= threshold - 1e-6).nonzero()[:, 0]
            yield list(zip(values[earlier].tolist(), earlier.tolist(), strict=True))
