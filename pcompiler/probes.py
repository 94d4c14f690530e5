"""Probes: the queries that fidelity is measured on. The user's own, or drawn from the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pcompiler import progress
from pcompiler.errors import InputError
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import sampler, steps
from pcompiler.targets.base import Compilation

MAX_BYTES = 16 * 2**20
_ROUNDS = 3  # of self-study, before giving up on a model that writes the same query again


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
        raise InputError(f"{path} has no queries; each line must be like {{\"query\": \"…\"}}.")
    return [_probe(row, f"{path}, line {n}") for n, row in rows]


def _probe(row: str, where: str) -> Probe:
    try:
        query = json.loads(row)["query"]
    except (ValueError, KeyError, TypeError, RecursionError):
        query = None
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"{where}: each line must be like {{\"query\": \"…\"}}.")
    return Probe(query)


def to_lines(probes: Sequence[Probe]) -> str:
    """The probes as JSON lines, as the store keeps them."""
    return "".join(json.dumps({"query": p.query}, ensure_ascii=False) + "\n" for p in probes)


def from_lines(text: str) -> list[Probe]:
    """Undo ``to_lines``."""
    return [Probe(json.loads(line)["query"]) for line in text.splitlines()]


def self_study(compilation: Compilation) -> list[Probe]:
    """Queries that the model itself writes, with the prompt in place and the user's turn open.

    An aligned model that is given an open user turn writes what a user would (arXiv 2406.08464).
    Seeded; at most ``probes.self_study`` distinct queries of ``probes.query_tokens`` tokens.

    Raises:
        InputError: the model wrote nothing usable.
    """
    config, model = compilation.config, compilation.model
    wanted, length = config.probes.self_study, config.probes.query_tokens
    opening = model.tokenizer.encode(compilation.template.before, add_special_tokens=False)
    if not opening:  # the user's turn is already open at the end of the context
        raise InputError("this model's template allows no self-study; give --queries FILE.")
    found: dict[str, None] = {}  # a set that keeps its order
    for attempt in range(_ROUNDS):
        pick = sampler(0.8, 0.9, config.compile.seed + attempt)
        written: list[list[int]] = [[] for _ in range(wanted)]
        with progress.bar(length, "self-study", "token") as shown:
            for step in steps(model, compilation.teacher, [opening] * wanted, length, pick):
                for row, token in zip(step.rows, step.tokens, strict=True):
                    written[row].append(token)
                shown.update()
        texts = [_first_paragraph(model, ids) for ids in written]
        found.update(dict.fromkeys(filter(None, texts)))
        if len(found) >= wanted:
            break
    if not found:
        raise InputError("the model wrote no usable query for this prompt; give --queries FILE.")
    return [Probe(query) for query in list(found)[:wanted]]


def _first_paragraph(model: LanguageModel, ids: list[int]) -> str:
    text: str = model.tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip().split("\n\n")[0].strip()
