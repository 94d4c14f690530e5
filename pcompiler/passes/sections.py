"""Sections of a prompt by name: parts that the user gives a rate of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pcompiler.errors import ConfigError
from pcompiler.ir import Kind, Prompt, Segment

_MARKS = " \t\r\n#*_`:="


def rates(given: Sequence[str]) -> dict[str, float]:
    """``NAME=RATE`` for each; the name alone keeps a section word for word.

    Raises:
        ConfigError: no name, or a rate that is no share from 0 to 1.
    """
    found: dict[str, float] = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        if not equals:
            name, number = text, "1"
        try:
            rate = float(number)
        except ValueError:
            rate = -1.0
        if not name.strip() or not 0 <= rate <= 1:
            raise ConfigError(
                f"section {text!r}: write NAME=RATE, a share from 0 to 1, or NAME to keep it whole."
            )
        found[_name(name)] = rate
    return found


def of_segments(prompt: Prompt, rates: Mapping[str, float]) -> list[float | None]:
    """Each segment's own rate; none: it goes by the prompt's.

    A section is what stands under a heading, deeper headings included, or all messages of a role.
    Of nested sections the inner one's rate holds.

    Raises:
        ConfigError: no such section; lists those there are.
    """
    trails = _trails(prompt)
    known = {name for trail in trails for name in trail}
    if unknown := sorted(set(rates) - known):
        raise ConfigError(
            f"section {', '.join(unknown)} is not in the prompt; it has: "
            f"{', '.join(sorted(known)) or 'no headings'}."
        )
    return [
        next((rates[name] for name in reversed(trail) if name in rates), None) for trail in trails
    ]


def _trails(prompt: Prompt) -> list[list[str]]:
    """For each segment the names it goes by, from the outermost: its role, then headings."""
    trails: list[list[str]] = []
    open_headings: list[tuple[int, str]] = []
    message = 0
    for segment in prompt.segments:
        if segment.message != message:
            message, open_headings = segment.message, []
        if (level := heading_level(segment)) is not None:
            while open_headings and open_headings[-1][0] >= level:
                open_headings.pop()
            open_headings.append((level, _name(segment.text.splitlines()[0])))
        trails.append([prompt.roles[message], *(name for _, name in open_headings)])
    return trails


def heading_level(segment: Segment) -> int | None:
    """1 to 6 for a Markdown heading, with # before it or a line under it."""
    if segment.kind in (Kind.CODE, Kind.JSON, Kind.TABLE, Kind.MARKUP):
        return None
    first, _, rest = segment.text.lstrip("\n").partition("\n")
    marks = first.lstrip(" ").split(" ", 1)[0]
    if marks and len(marks) <= 6 and not marks.strip("#"):
        return len(marks)
    under = rest.split("\n", 1)[0].strip()
    if first.strip() and under and not under.strip("=-") and len(set(under)) == 1:
        return 1 if under[0] == "=" else 2
    return None


def _name(text: str) -> str:
    return text.strip(_MARKS).casefold()
