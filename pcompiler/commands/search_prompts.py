"""``pcompiler store search``: stored prompts by meaning."""

from __future__ import annotations

import argparse
from pathlib import Path

from pcompiler import embed
from pcompiler.commands import options, output
from pcompiler.errors import InputError, StoreUnavailable
from pcompiler.nearest import Hit, Prompts
from pcompiler.store.db import Store, holds_store
from pcompiler.table import render

SHOWN = 60  # characters of a prompt in the table


def run(args: argparse.Namespace) -> int:
    """Print the nearest prompts with their artifacts."""
    config = options.config(args)
    if not args.text.strip() or args.limit < 1:
        raise InputError("give a text to search for, and a --limit of 1 or more.")
    folder = config.store.folder
    rows: list[tuple[Hit, str]] = []
    if holds_store(folder):
        store, writable = _opened(config.store.folder)
        with store:
            prompts = Prompts(store, embed.provider(config.embed, config.model.device), writable)
            hits = prompts.search(args.text, args.limit)
            rows = [(hit, _beginning(store.source(hit.prompt_hash) or "")) for hit in hits]
    if args.json:
        output.json_line({"store": str(folder), "hits": [_as_json(*row) for row in rows]})
    elif not rows:
        print(f"the store {folder} has no prompts; compile one first.")
    else:
        print(render(("cosine", "artifacts", "prompt"), [_row(*row) for row in rows]))
    return 0


def _opened(folder: Path) -> tuple[Store, bool]:
    """The store, for writing what is embedded now; beside another writer, for reading."""
    try:
        return Store(folder), True
    except StoreUnavailable:
        return Store(folder, "read"), False


def _as_json(hit: Hit, text: str) -> dict[str, object]:
    return {
        "cosine": hit.cosine,
        "prompt_hash": hit.prompt_hash,
        "artifacts": [header.id for header in hit.headers],
        "prompt": text,
    }


def _row(hit: Hit, text: str) -> tuple[str, ...]:
    artifacts = ", ".join(f"{h.id[:8]} ({h.target})" for h in hit.headers)
    return f"{hit.cosine:.3f}", artifacts, text


def _beginning(source: str) -> str:
    line = " ".join(source.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
