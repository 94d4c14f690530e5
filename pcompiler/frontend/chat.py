"""Chat messages (a JSON list of role/content) → Prompt, with exact offsets into the JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pcompiler.errors import InputError
from pcompiler.frontend import fences
from pcompiler.frontend.segment import blocks
from pcompiler.ir import Kind, Policy, Prompt, Segment

ROLES = ("system", "developer", "user", "assistant", "tool")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]', re.S)
_CHARACTER = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.S
)
_PROSE = (Kind.INSTRUCTION, Kind.DOCUMENT, Kind.LIST)


def parse(source: str) -> Prompt:
    """Parse chat messages; the segments tile the JSON, glue and quotes included.

    Raises:
        InputError: not a JSON list of objects with a known ``role`` and a text ``content``.
    """
    roles = [_check(message, i) for i, message in enumerate(_load(source))]
    segments: list[Segment] = []
    position = 0
    for index, start, end in _contents(source):
        segments.append(_glue(source, position, start, index))
        segments.extend(_segments(source[start:end], start, index, roles[index]))
        position = end
    segments.append(_glue(source, position, len(source), len(roles) - 1))
    return Prompt(source, tuple(s for s in segments if s.source), tuple(roles))


def _glue(source: str, start: int, end: int, message: int) -> Segment:
    return Segment(Kind.MARKUP, source[start:end], start, "", Policy.KEEP, message)


def _load(source: str) -> list[Any]:
    try:
        data = json.loads(source.lstrip("\ufeff"), object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as e:
        raise InputError(f"the chat messages are not JSON: line {e.lineno}: {e.msg}.") from None
    except RecursionError:
        raise InputError("the chat messages are nested too deeply.") from None
    if not isinstance(data, list) or not data:
        raise InputError("chat messages must be a JSON list of objects with role and content.")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in pairs}) < len(pairs):
        raise InputError(f"a chat message names a key twice: {', '.join(k for k, _ in pairs)}.")
    return dict(pairs)


def _check(message: Any, index: int) -> str:  # noqa: ANN401 - raw JSON
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise InputError(f"message {index + 1} needs a text 'content' beside its 'role'.")
    role = message.get("role")
    if role not in ROLES:
        raise InputError(f"message {index + 1} has role {role!r}; known: {', '.join(ROLES)}.")
    return str(role)


def _contents(source: str) -> Iterator[tuple[int, int, int]]:
    """(message, start, end) of each content string's inside, in the valid JSON ``source``."""
    depth, message, key, value_next = 0, -1, "", False
    for token in _TOKEN.finditer(source):
        text = token.group()
        if text in "[{":
            depth += 1
            message += depth == 2
        elif text in "]}":
            depth -= 1
        elif text == ":":
            value_next = True
            continue
        elif text != "," and depth == 2:
            if value_next and key == "content":
                yield message, token.start() + 1, token.end() - 1
            key = json.loads(text, strict=False)
        value_next = False


def _segments(raw: str, offset: int, message: int, role: str) -> Iterator[Segment]:
    """Segments of one content string; ``raw`` still has its JSON escapes."""
    text, at = _decode(raw)
    for part in fences.split(text):
        cuts = [(Kind.MARKUP, 0, len(part.text))] if part.is_marker else list(blocks(part.text))
        for kind, a, b in cuts:
            start, end = at[part.start + a], at[part.start + b]
            shown = "" if part.is_marker else part.text[a:b]
            kind = Kind.EXAMPLE if role in ("user", "assistant") and kind in _PROSE else kind
            yield Segment(kind, raw[start:end], offset + start, shown, part.policy, message)


def _decode(raw: str) -> tuple[str, list[int] | range]:
    """The text of a JSON string, and for each of its characters the offset in ``raw``."""
    if "\\" not in raw:
        return raw, range(len(raw) + 1)
    text: str = json.loads(f'"{raw}"')
    at = [m.start() for m in _CHARACTER.finditer(raw)]
    assert len(at) == len(text), "one raw character or escape for each decoded character"
    return text, [*at, len(raw)]
