"""What an earlier part of the prompt has said: word for word, nearly so, or in other words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pcompiler import meter
from pcompiler.ir import Kind, Policy, Prompt, Segment
from pcompiler.passes import protect
from pcompiler.passes.protect import Span
from pcompiler.passes.seams import SENTENCE_END
from pcompiler.passes.sections import heading_level
from pcompiler.passes.similar import near_duplicates, semantic_duplicates
from pcompiler.ranges import ranged

if TYPE_CHECKING:
    from pcompiler.embed.encoder import Encoder

MIN_WORDS = 5  # below it, a repetition is a heading or a "Yes.", not redundancy
_MUST_AGREE = ("placeholders", "code", "urls", "numbers", "negations", "identifiers", "quotes")
_PROSE = (Kind.INSTRUCTION, Kind.DOCUMENT, Kind.LIST)


@ranged("pass deduplicate")
def run(prompt: Prompt, repeats: Sequence[Sequence[Span]] | None = None) -> Prompt:
    """The same prompt without its repetitions, exact ones by default.

    A heading goes with all that stood under it.
    """
    texts = []
    found = exact(prompt) if repeats is None else repeats
    for segment, spans in zip(prompt.segments, found, strict=True):
        text = segment.text
        for start, end in reversed(spans):
            text = text[:start] + text[end:]
        texts.append(text)
    return prompt.with_texts(_without_bare_headings(prompt, texts))


@meter.timed("pass_seconds", step="deduplicate")
@ranged("pass deduplicate: find")
def exact(prompt: Prompt) -> list[list[Span]]:
    """Segments that are equal to an earlier one of the same role.

    Whitespace does not count. Fenced parts, examples (where saying the same is the point) and
    short lines are never taken for repetitions.
    """
    return _equal(prompt)


def _equal(prompt: Prompt) -> list[list[Span]]:
    seen: set[tuple[str, str]] = set()
    found: list[list[Span]] = []
    for segment in prompt.segments:
        key = (prompt.roles[segment.message], " ".join(segment.text.split()))
        repeats = key in seen and _may_go(segment)
        found.append([(0, len(segment.text))] if repeats else [])
        seen.add(key)
    return found


@meter.timed("pass_seconds", step="deduplicate")
@ranged("pass deduplicate: find")
def near(prompt: Prompt, encoder: Encoder | None = None) -> list[list[Span]]:
    """Equal segments, and sentences and items that nearly repeat an earlier one.

    Two that differ in a number, a name with digits, a negation, an address or anything else that
    is protected are never taken for one. With an encoder, what says the same in other words is
    found as well.
    """
    found = _equal(prompt)
    at = [
        (number, span)
        for number, segment in enumerate(prompt.segments)
        if segment.kind in _PROSE and _may_go(segment) and not found[number]
        for span in _sentences(segment)
        if len(segment.text[slice(*span)].split()) >= MIN_WORDS
    ]
    texts = [prompt.segments[number].text[slice(*span)] for number, span in at]
    repeats = (
        near_duplicates(texts, allow=_agree)
        if encoder is None
        else semantic_duplicates(texts, encoder, allow=_agree)
    )
    for (number, span), earlier in zip(at, repeats, strict=True):
        if earlier is not None and _role(prompt, number) == _role(prompt, at[earlier][0]):
            found[number].append(_but_line_end(prompt.segments[number].text, span))
    return found


def _without_bare_headings(prompt: Prompt, texts: list[str]) -> list[str]:
    """Drop the headings under which nothing is left of what there was."""
    levels = [heading_level(segment) for segment in prompt.segments]
    for i, level in reversed(list(enumerate(levels))):  # inner headings first
        if level is None or prompt.segments[i].policy is Policy.KEEP:
            continue
        ends = (j for j in range(i + 1, len(levels)) if (levels[j] or 7) <= level)
        below = range(i + 1, next(ends, len(levels)))
        if any(prompt.segments[j].text for j in below) and not any(texts[j] for j in below):
            texts[i] = ""
    return texts


def _may_go(segment: Segment) -> bool:
    long_enough = len(segment.text.split()) >= MIN_WORDS
    return long_enough and segment.policy is not Policy.KEEP and segment.kind is not Kind.EXAMPLE


def _sentences(segment: Segment) -> Iterator[Span]:
    """The segment's sentences, each with what stands between it and the next."""
    start = 0
    for end in SENTENCE_END.finditer(segment.text):
        if end.end() > start:
            yield start, end.end()
            start = end.end()
    if start < len(segment.text):
        yield start, len(segment.text)


def _but_line_end(text: str, span: Span) -> Span:
    """A sentence without the end of its line, if others stand on that line."""
    start, end = span
    ending = len(text[start:end].rstrip())
    others = start > 0 and text[start - 1] != "\n"
    return (start, start + ending) if others and "\n" in text[start + ending : end] else span


def _role(prompt: Prompt, segment: int) -> str:
    return prompt.roles[prompt.segments[segment].message]


def _agree(earlier: str, later: str) -> bool:
    """Whether all that is protected in one is in the other."""
    return protect.words(earlier, _MUST_AGREE) == protect.words(later, _MUST_AGREE)
