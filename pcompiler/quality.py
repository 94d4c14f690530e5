"""How a shortened or decompressed text stands to its original, without asking what it is for.

Three measures of likeness that published tables give. None says whether a model that reads the
text still answers alike: that is what ``fidelity`` measures, on queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from pcompiler import progress
from pcompiler.embed.encoder import Encoder
from pcompiler.errors import ConfigError, InputError
from pcompiler.model import LanguageModel

LEAST_KNOWN = 0.9  # of a text's tokens; with fewer, its cosine is about the encoder's ignorance
_CHUNK_TOKENS = 256  # whose logits exist at a time: 50 MB for SmolLM2
_SPACED = 12  # characters a space at most, in scripts that put spaces between words


@dataclass(frozen=True)
class TextQuality:
    """A text beside its original.

    Attributes:
        saved_tokens: 1 - tokens / original tokens; below 0: the text is longer.
        saved_bytes: 1 - bytes / original bytes, in UTF-8.
        bleu: see ``bleu``.
        cosine: see ``cosine``; None: the encoder does not know the language.
        perplexity_loss: see ``perplexity_loss``; None: a text of a single token, or none.
        identical: character by character.
    """

    saved_tokens: float
    saved_bytes: float
    bleu: float
    cosine: float | None
    perplexity_loss: float | None
    identical: bool


def measure(model: LanguageModel, encoder: Encoder, original: str, text: str) -> TextQuality:
    """All measures of one text.

    Raises:
        InputError: the original is empty, so there is nothing to save of.
        ConfigError: sacrebleu is not installed.
    """
    if not original:
        raise InputError("the original is empty: nothing can be compared with it.")
    ids = [_ids(model, t) for t in (original, text)]
    counts = [len(_ids(model, t, whole=False)) for t in (original, text)]
    known = min(encoder.known([original, text]))
    return TextQuality(
        saved_tokens=1 - counts[1] / counts[0],
        saved_bytes=1 - _bytes(text) / _bytes(original),
        bleu=bleu(original, text),
        cosine=cosine(encoder, original, text) if known >= LEAST_KNOWN else None,
        perplexity_loss=(
            perplexity_loss(model, original, text) if min(map(len, ids)) > 1 else None
        ),
        identical=original == text,
    )


def bleu(original: str, text: str) -> float:
    """BLEU (Papineni et al. 2002) of a text as the hypothesis, its original as the reference.

    Both are one segment each: a shortened text has fewer lines than its original, so there are
    no pairs of lines to pool. Hence the order of sentences hardly counts. The brevity penalty,
    exp(1 - 1/rate), makes shortening itself cost: half of a text word for word has 0.37.

    Through sacrebleu: its default tokens, or single characters where the original has few
    spaces (Chinese, Thai); exponential smoothing, effective order for texts below four tokens.

    Returns:
        0 to 1; 1 for identical texts.

    Raises:
        ConfigError: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as e:
        raise ConfigError(
            "BLEU needs sacrebleu, which is not installed; "
            "install it with: pip install 'pcompiler[bench]'"
        ) from e
    if original == text:
        return 1.0
    spaced = len(original) <= _SPACED * (1 + len(original.split()))
    scorer = BLEU(effective_order=True, tokenize="13a" if spaced else "char")
    return min(1.0, float(scorer.sentence_score(text, [original]).score) / 100)


def cosine(encoder: Encoder, original: str, text: str) -> float:
    """Cosine of the embeddings of two texts of any length (``Encoder.encode_document``).

    Returns:
        -1 to 1; 1 for identical texts; 0 where only one of them has a token.
    """
    if original == text:
        return 1.0
    one, other = encoder.encode_document(original), encoder.encode_document(text)
    return max(-1.0, min(1.0, float(one @ other)))


def perplexity(model: LanguageModel, text: str) -> float:
    """How surprised the model is by a text: exp of the mean nats of a token, given those before.

    The text is read as it stands, without a chat template. Its first token only is context,
    unless the tokenizer puts one of its own before it. Past the model's window, each token has at
    least half a window of context.

    Raises:
        InputError: fewer than two tokens, so that nothing is predicted.
    """
    ids = _ids(model, text)
    if len(ids) < 2:
        raise InputError(f"perplexity needs a text of at least two tokens; this has {len(ids)}.")
    with torch.inference_mode(), progress.bar(len(ids), "perplexity", "token") as shown:
        nats = 0.0
        for start, fresh, end in _windows(len(ids), model.window):
            nats += _surprise(model, ids[start:end], fresh - start)
            shown.update(end - fresh)
    return math.exp(nats / (len(ids) - 1))


def perplexity_loss(model: LanguageModel, original: str, text: str) -> float:
    """How much higher a text's perplexity is than its original's, relative to the original's.

    It tells how natural the text is to the model, not what the text has lost. Perplexity is per
    token: dropping predictable words leaves the surprising ones, so it rises though nothing may
    be missing (compression by self-information does this on purpose); dropping a hard passage,
    or repeating oneself, lowers it. Compare texts of like rate, or take it as a sign of broken
    grammar.

    Returns:
        perplexity(text) / perplexity(original) - 1; 0 for identical texts.

    Raises:
        InputError: they differ, and one of them has fewer than two tokens.
    """
    if original == text:
        return 0.0
    return perplexity(model, text) / perplexity(model, original) - 1


def _windows(tokens: int, window: int) -> Iterator[tuple[int, int, int]]:
    """(start, first token not seen before, end) of windows that overlap by half."""
    seen = 0
    while seen < tokens:
        start = max(0, seen - window // 2)
        end = min(tokens, start + window)
        yield start, seen, end
        seen = end


def _surprise(model: LanguageModel, ids: list[int], fresh: int) -> float:
    """Nats of a window's tokens from ``fresh`` on; its first one has no context and costs 0."""
    cache = DynamicCache(config=model.hf.config)
    nats = 0.0
    for start in range(0, len(ids) - 1, _CHUNK_TOKENS):
        end = min(len(ids) - 1, start + _CHUNK_TOKENS)
        logits = model.hf(
            input_ids=model.tensor(ids[start:end]), past_key_values=cache, use_cache=True
        ).logits[0]
        wanted = model.tensor(ids[start + 1 : end + 1])[0]
        of = max(0, fresh - 1 - start)
        nats += float(cross_entropy(logits[of:].float(), wanted[of:], reduction="sum"))
    return nats


def _ids(model: LanguageModel, text: str, whole: bool = True) -> list[int]:
    """Tokens, with those that the tokenizer itself puts around a whole text."""
    # Half a surrogate pair is a legal str that tokenizers cannot take.
    clean = text.encode("utf-8", "replace").decode()
    ids: list[int] = model.tokenizer.encode(clean, add_special_tokens=whole, verbose=False)
    return ids


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
