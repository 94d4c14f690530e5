"""Query files: JSON lines with one query each. No torch, so that a bad file is refused at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pcompiler.errors import InputError
from pcompiler.ir import Probe

MAX_BYTES = 16 * 2**20


def read_queries(path: str | Path) -> list[Probe]:
    """Read a JSON-lines file whose rows have a text ``query``.

    Raises:
        InputError: not readable, no rows, or a bad row, with its line number.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"cannot read the queries {path}: {e}.") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"the queries {path} are over {MAX_BYTES >> 20} MiB; give fewer.")
    rows = [(n, row) for n, row in enumerate(text.splitlines(), 1) if row.strip()]
    if not rows:
        raise InputError(f'{path} has no queries; each line must be like {{"query": "…"}}.')
    return [_probe(row, f"{path}, line {n}") for n, row in rows]


def _probe(row: str, where: str) -> Probe:
    try:
        query = json.loads(row)["query"]
    except (ValueError, KeyError, TypeError, RecursionError):
        query = None
    if not isinstance(query, str) or not query.strip():
        raise InputError(f'{where}: each line must be like {{"query": "…"}}.')
    return Probe(query)


def to_lines(probes: Sequence[Probe]) -> str:
    """The probes as JSON lines, as the store keeps them."""
    return "".join(json.dumps({"query": p.query}, ensure_ascii=False) + "\n" for p in probes)


def from_lines(text: str) -> list[Probe]:
    """Undo ``to_lines``."""
    return [Probe(json.loads(line)["query"]) for line in text.splitlines()]
