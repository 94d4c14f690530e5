"""What shortening has to leave as it is: spans of the text, found by class.

A span that is protected stays, byte for byte, even when all around it goes. Classes are ordered:
where what is protected does not fit the budget, the last ones are let go first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pcompiler import meter
from pcompiler.errors import ConfigError
from pcompiler.ir import Kind, Policy, Prompt, Segment
from pcompiler.ranges import ranged

Span = tuple[int, int]  # start and end in a segment's text, in characters

_UNIT = (
    r"%|‰|°[CF]?|[kKMGT]i?[Bb](?:/s)?|[kcmμµn]?m|km/h|[kmμµ]?g|[mcd]?l|[kMG]?Hz|[kMG]?W|k?Wh|[mk]?V|"
    r"mA|ms|s|min|h|EUR|USD|GBP|CHF|JPY|bn|million|billion|thousand|"
    r"(?:second|minute|hour|day|week|month|year|token|percent|cent|dollar|euro)s?"
)
# What a match begins with is looked for first: it is what makes most of a text quick to pass over.
_PATTERNS = {
    "placeholders": (
        r"(?=[{$<%\[])(?:\{\{[^{}\n]{0,200}\}\}|\{%[^\n]{0,200}?%\}|\$\{[^{}\n]{0,200}\}|"
        r"(?<![\w{])\{[A-Za-z_][\w.\[\]]{0,80}\}|<\|[^|\n]{1,80}\|>|%\(\w{1,80}\)[sdfr]|"
        r"\[[A-Z][A-Z0-9_ ]{2,40}\])"
    ),
    "code": r"`[^`\n]{1,500}`",
    "urls": (
        r"\b(?:https?|ftp|s3|file)://[^\s<>\"'`)\]]{1,2000}|\bwww\.[^\s<>\"'`)\]]{1,2000}|"
        r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}"
    ),
    "numbers": (
        r"(?=[\d€$£¥EUGC+\-−])(?:(?:[€$£¥]|\b(?:EUR|USD|GBP|CHF)\s?)?"
        r"[+\-−]?\d(?:[\d.,:/'’\-–]*\d)?"
        rf"(?:(?:st|nd|rd|th)\b|\s?(?:{_UNIT})(?!\w))?)"
    ),
    # English. With the two words that it turns round: alone it would turn round what comes next.
    "negations": (
        r"(?i)\b(?=[ncweu]|\w{3,9}['’])"
        r"(?:not|no|never|none|neither|nor|cannot|without|except|unless|\w{2,8}n['’]t)\b"
        r"(?:[^\S\n]+\w+){0,2}"
    ),
    "identifiers": (
        r"(?<!\w)(?![A-Z]?[a-z]+(?:[\s,;:)]|\.\s))"  # no word without anything in it
        r"(?:[#@/~][\w./-]*\w|\w+(?:[_./\\]\w+)+|[A-Za-z]+\d[\w-]*|\d+[A-Za-z][\w-]*|"
        r"[a-z]+(?:[A-Z][a-z0-9]+)+|[A-Z]{2,}(?:[-_]?[A-Z0-9]+)*)(?!\w)"
    ),
    "quotes": r"\"[^\"\n]{1,300}\"|“[^”\n]{1,300}”|«[^»\n]{1,300}»|„[^“\n]{1,300}“",
}
# One of these is in each match.
_SIGNS = {
    "placeholders": ("{", "<|", "%(", "["),
    "code": ("`",),
    "urls": ("://", "www.", "@"),
    "quotes": ('"', "“", "«", "„"),
}
CLASSES = ("placeholders", "code", "data", "urls", "numbers", "negations", "identifiers", "quotes")
UNTORN = ("placeholders", "urls", "numbers", "negations", "identifiers")  # kept or gone whole
_COMPILED = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
_WHOLE = {Kind.CODE: "code", Kind.JSON: "data"}
_YAML_LINE = re.compile(r"\s*(?:-\s+\S.*|[\w.-]+:(?:\s.*)?|#.*)?$")


def check(classes: Iterable[str]) -> tuple[str, ...]:
    """The classes in order of priority.

    Raises:
        ConfigError: one is not known.
    """
    given = set(classes)
    if unknown := sorted(given - set(CLASSES)):
        raise ConfigError(
            f"protect: {', '.join(unknown)} is not one of {', '.join(CLASSES)} (or all, or none)."
        )
    return tuple(name for name in CLASSES if name in given)


@dataclass(frozen=True)
class Protected:
    """Spans of a prompt that have to stay, segment by segment.

    Attributes:
        always: what the author fenced, and forced words.
        by_class: what each class found.
        characters: of the text.
    """

    always: list[list[Span]]
    by_class: dict[str, list[list[Span]]]
    characters: int

    def spans(self, classes: Collection[str]) -> list[list[Span]]:
        """What always stays, and what some classes found; sorted, overlaps joined."""
        chosen = [self.always, *(self.by_class[name] for name in classes)]
        return [
            _joined([s for spans in found for s in spans]) for found in zip(*chosen, strict=True)
        ]


@meter.timed("pass_seconds", step="protect")
@ranged("pass protect")
def find(prompt: Prompt, classes: Sequence[str], force: Sequence[str] = ()) -> Protected:
    """Look for spans of some classes, and for words that the user forces to stay.

    A forced word is found as a whole word, wherever it stands.
    """
    words = _forced(force)
    always = [_always(segment, words) for segment in prompt.segments]
    whole = ["data" if _is_yaml(s.text) else _WHOLE.get(s.kind) for s in prompt.segments]
    by_class = {
        name: [list(_spans(s, of, name)) for s, of in zip(prompt.segments, whole, strict=True)]
        for name in classes
    }
    characters = sum(len(segment.text) for segment in prompt.segments)
    return Protected(always, by_class, characters)


def words(text: str, classes: Sequence[str]) -> list[str]:
    """What some classes find in a text, in order of the alphabet and without regard to case."""
    likely = (name for name in classes if _may_have(text, name))
    found = (m.group().casefold() for name in likely for m in _COMPILED[name].finditer(text))
    return sorted(found)


def _always(segment: Segment, words: re.Pattern[str] | None) -> list[Span]:
    if segment.policy is Policy.KEEP:
        return [(0, len(segment.text))]
    return [m.span() for m in words.finditer(segment.text)] if words else []


def _forced(force: Sequence[str]) -> re.Pattern[str] | None:
    parts = []
    for word in sorted(force, key=len, reverse=True):
        before = r"(?<!\w)" if word[:1].isalnum() else ""
        after = r"(?!\w)" if word[-1:].isalnum() else ""
        parts.append(before + re.escape(word) + after)
    return re.compile("|".join(parts)) if parts else None


def _spans(segment: Segment, whole: str | None, name: str) -> Iterator[Span]:
    if whole is not None:
        if name == whole:
            yield 0, len(segment.text)
    elif name in _COMPILED and _may_have(segment.text, name):
        yield from (m.span() for m in _COMPILED[name].finditer(segment.text))


def _may_have(text: str, name: str) -> bool:
    return name not in _SIGNS or any(sign in text for sign in _SIGNS[name])


def _is_yaml(text: str) -> bool:
    """Lines of keys and items only, some of them indented."""
    lines = [line for line in text[:20_000].splitlines() if line.strip()]
    if len(lines) < 3 or not any(line[0] in " \t" for line in lines):
        return False
    keys = sum(":" in line for line in lines)
    return 2 * keys >= len(lines) and all(_YAML_LINE.match(line) for line in lines)


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
