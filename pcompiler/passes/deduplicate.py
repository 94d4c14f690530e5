"""Segments that say, word for word, what an earlier one said."""

from __future__ import annotations

from pcompiler.ir import Kind, Policy, Prompt, Segment

MIN_WORDS = 5  # below it, a repetition is a heading or a "Yes.", not redundancy


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


def _may_go(segment: Segment) -> bool:
    long_enough = len(segment.text.split()) >= MIN_WORDS
    return long_enough and segment.policy is not Policy.KEEP and segment.kind is not Kind.EXAMPLE
