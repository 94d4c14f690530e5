"""What an earlier part of the prompt has said: word for word, nearly so, or in other words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pcompiler.ir import Kind, Policy, Prompt, Segment
from pcompiler.passes import protect
from pcompiler.passes.pieces import SENTENCE_END
from pcompiler.passes.similar import near_duplicates, semantic_duplicates

if TYPE_CHECKING:
    from pcompiler.embed.encoder import Encoder

MIN_WORDS = 5  # below it, a repetition is a heading or a "Yes.", not redundancy
_MUST_AGREE = ("placeholders", "code", "urls", "numbers", "negations", "identifiers", "quotes")
_PROSE = (Kind.INSTRUCTION, Kind.DOCUMENT, Kind.LIST)


def run(prompt: Prompt) -> Prompt:
    """The same prompt without its exact repetitions.

    The first of several equal segments stays. Whitespace does not count; the role does. Fenced
    parts, examples (where saying the same is the point) and short lines are never dropped.
    """
    seen: set[tuple[str, str]] = set()
    texts = []
    for segment in prompt.segments:
        key = (prompt.roles[segment.message], " ".join(segment.text.split()))
        texts.append("" if key in seen and _may_go(segment) else segment.text)
        seen.add(key)
    return prompt.with_texts(texts)


def near(prompt: Prompt, encoder: Encoder | None = None) -> Prompt:
    """The same prompt without sentences and items that nearly repeat an earlier one.

    Two that differ in a number, a name with digits, a negation, an address or anything else that
    is protected are never taken for one. With an encoder, what says the same in other words goes
    as well.
    """
    sentences = [list(_sentences(segment)) for segment in prompt.segments]
    at = [
        (i, j)
        for i, (segment, parts) in enumerate(zip(prompt.segments, sentences, strict=True))
        for j, part in enumerate(parts)
        if segment.kind in _PROSE and _may_go(segment) and len(part.split()) >= MIN_WORDS
    ]
    texts = [f"{sentences[i][j]}" for i, j in at]
    repeats = (
        near_duplicates(texts, allow=_agree)
        if encoder is None
        else semantic_duplicates(texts, encoder, allow=_agree)
    )
    for (i, j), earlier in zip(at, repeats, strict=True):
        if earlier is not None and _role(prompt, i) == _role(prompt, at[earlier][0]):
            sentences[i][j] = _line_end(sentences[i], j)
    return prompt.with_texts("".join(parts) for parts in sentences)


def _may_go(segment: Segment) -> bool:
    long_enough = len(segment.text.split()) >= MIN_WORDS
    return long_enough and segment.policy is not Policy.KEEP and segment.kind is not Kind.EXAMPLE


def _sentences(segment: Segment) -> Iterator[str]:
    """The segment's text in parts, each with what stands between it and the next."""
    start = 0
    for end in SENTENCE_END.finditer(segment.text):
        if end.end() > start:
            yield segment.text[start : end.end()]
            start = end.end()
    if start < len(segment.text):
        yield segment.text[start:]


def _line_end(sentences: Sequence[str], number: int) -> str:
    """What has to stay of a sentence that goes: the end of a line that others stand on."""
    text = sentences[number]
    ending = text[len(text.rstrip()) :]
    others = number > 0 and "\n" not in sentences[number - 1] and sentences[number - 1] != ""
    return ending if "\n" in ending and others else ""


def _role(prompt: Prompt, segment: int) -> str:
    return prompt.roles[prompt.segments[segment].message]


def _agree(earlier: str, later: str) -> bool:
    """Whether all that is protected in one is in the other."""
    return protect.words(earlier, _MUST_AGREE) == protect.words(later, _MUST_AGREE)
