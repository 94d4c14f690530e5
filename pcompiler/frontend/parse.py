"""Reads a prompt file safely and picks the form it is in."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from pcompiler.errors import InputError
from pcompiler.frontend import chat, fences
from pcompiler.frontend.segment import blocks
from pcompiler.ir import Kind, Policy, Prompt, Segment
from pcompiler.ranges import ranged

MAX_BYTES = 64 * 2**20
BOM = "\ufeff"
_HALF = re.compile("[\ud800-\udfff]")


def read_source(path: str | Path) -> str:
    """Read a prompt file, or standard input for ``-``.

    Raises:
        InputError: missing, a folder, empty, binary, not UTF-8, or over 64 MiB.
    """
    piped = str(path) == "-"
    data = sys.stdin.buffer.read(MAX_BYTES + 1) if piped else _read_file(Path(path))
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is over {MAX_BYTES >> 20} MiB; a prompt has to be smaller.")
    if b"\x00" in data:
        raise InputError(f"{path} is a binary file (it has NUL bytes); give a UTF-8 text file.")
    try:
        source = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            f"{path} is not UTF-8: byte 0x{data[e.start]:02x} at offset {e.start}. "
            "Convert it first, for instance: iconv -f latin1 -t utf-8 FILE."
        ) from None
    if not source.strip().strip(BOM):
        raise InputError(f"{path} is empty; there is no prompt to compile.")
    return source


def _read_file(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one prompt file.")
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a prompt file, or - for stdin.") from None
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}.") from None


@ranged("parse")
def parse(source: str) -> Prompt:
    """Split a source into segments that tile it exactly.

    Args:
        source: chat messages, when it is a JSON list of objects with a ``role``; otherwise plain
            text or Markdown, with or without fence markers (see ``fences``).

    Raises:
        InputError: malformed chat messages or fence markers, or no text for the model.
    """
    prompt = chat.parse(source) if _looks_like_chat(source) else _parse_text(source)
    if not any(m.content.strip() for m in prompt.messages):
        raise InputError("the prompt has no text for the model; there is nothing to compile.")
    if any(_HALF.search(message.content) for message in prompt.messages):
        raise InputError("the prompt has half a surrogate pair (\\ud800-\\udfff); mend the escape.")
    return prompt


def _looks_like_chat(source: str) -> bool:
    if not source.lstrip(BOM + " \t\r\n").startswith("["):
        return False
    try:
        data = json.loads(source.lstrip(BOM))
    except (json.JSONDecodeError, RecursionError):
        return False
    return isinstance(data, list) and any(isinstance(m, dict) and "role" in m for m in data)


def _parse_text(source: str) -> Prompt:
    lead = len(source) - len(source.lstrip(BOM))
    segments = [Segment(Kind.MARKUP, source[:lead], 0, "", Policy.KEEP)] if lead else []
    for part in fences.split(source[lead:]):
        start = lead + part.start
        if part.is_marker:
            segments.append(Segment(Kind.MARKUP, part.text, start, "", Policy.KEEP))
            continue
        for kind, a, b in blocks(part.text):
            text = part.text[a:b]
            segments.append(Segment(kind, text, start + a, text, part.policy))
    return Prompt(source, tuple(segments))
