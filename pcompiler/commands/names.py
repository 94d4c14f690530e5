"""``pcompiler store names | tag | untag | pin | unpin | log | diff``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pcompiler.changes import Change, changes
from pcompiler.commands import diff as difference
from pcompiler.commands import options, output
from pcompiler.remote import opened
from pcompiler.store.artifact import Header
from pcompiler.store.db import Store, holds_store
from pcompiler.store.names import Name, full_name
from pcompiler.table import nbytes, percent, render

_LOG = ("at", "artifact", "target", "tokens", "kept", "size", "agreement", "prompt", "")
_COMPARED = ("target", "model_name", "config", "context_tokens", "kept_tokens", "created")


def names(args: argparse.Namespace) -> int:
    """All names, a line each."""
    folder, found = options.config(args).store.folder, list[Name]()
    if holds_store(folder):
        with Store(folder, "read") as store:
            found = list(store.names.all())
    if args.json:
        output.json_line({"store": str(folder), "names": [_name(n) for n in found]})
    elif not found:
        print(f"the store {folder} has no names; see 'pcompiler store tag --help'.")
    else:
        rows = [
            (n.name, n.artifact or "(gone)", n.moves[-1].at[:16], "pinned" if n.pinned else "")
            for n in found
        ]
        print(render(("name", "artifact", "since", ""), rows))
    return 0


def tag(args: argparse.Namespace) -> int:
    """Point names at an artifact, all at once."""
    config = options.config(args)
    with opened(config.store) as store:
        header = store.header(args.artifact)
        store.point(dict.fromkeys(args.names, header.id))
    called = [full_name(name) for name in args.names]
    if args.json:
        output.json_line({"artifact": header.id, "names": called})
    else:
        print(f"{', '.join(called)} → {header.id} ({header.target})")
    return 0


def untag(args: argparse.Namespace) -> int:
    """Forget a name."""
    config = options.config(args)
    with opened(config.store) as store:
        known = store.names.remove(args.name)
    return _said(args, known, f"{known.name} is forgotten; {known.artifact or 'nothing'} stays")


def pin(args: argparse.Namespace) -> int:
    """Keep what a name points at."""
    return _pin(args, True, "stays, whatever is evicted")


def unpin(args: argparse.Namespace) -> int:
    """Let what a name points at go."""
    return _pin(args, False, "may be evicted")


def _pin(args: argparse.Namespace, pinned: bool, what: str) -> int:
    config = options.config(args)
    with opened(config.store) as store:
        known = store.names.pin(args.name, pinned)
    return _said(args, known, f"what {known.name} points at {what}")


def _said(args: argparse.Namespace, name: Name, message: str) -> int:
    output.json_line(_name(name)) if args.json else print(message)
    return 0


def log(args: argparse.Namespace) -> int:
    """Where a name has pointed, newest first; or what an artifact was made from."""
    config = options.config(args)
    with Store(config.store.folder, "read") as store:
        named = store.names.find(args.name)
        steps = _moves(store, named) if named else _parents(store, store.header(args.name))
        found = list(steps)
    if args.json:
        output.json_line({"name": args.name, "log": [_step(*step) for step in found]})
        return 0
    before = [header.prompt_hash if header else None for *_, header in found[1:]] + [None]
    rows = [_log_row(*step, prompt) for step, prompt in zip(found, before, strict=True)]
    print(render(_LOG, rows))
    return 0


Step = tuple[str, str | None, Header | None]  # when, which artifact, what is known of it


def _moves(store: Store, name: Name) -> Iterator[Step]:
    for move in reversed(name.moves):
        yield move.at, move.artifact, store.find(move.artifact) if move.artifact else None


def _parents(store: Store, header: Header) -> Iterator[Step]:
    seen: set[str] = set()
    known: Header | None = header
    key: str | None = header.id
    while key is not None and key not in seen:
        seen.add(key)
        yield known.created if known else "", key, known
        key = known.parent if known else None
        known = store.find(key) if key else None


def _log_row(at: str, artifact: str | None, header: Header | None, before: str | None) -> Any:  # noqa: ANN401
    if header is None:
        return (at[:16], artifact or "(none)", *[""] * 6, "deleted" if artifact else "")
    changed = "prompt changed" if before not in (None, header.prompt_hash) else ""
    return (
        *(at[:16], header.id, header.target, str(header.context_tokens), str(header.kept_tokens)),
        *(nbytes(header.size_bytes), percent(header.fidelity.agreement)),
        *(header.prompt_hash[:8], changed),
    )


def _step(at: str, artifact: str | None, header: Header | None) -> dict[str, Any]:
    known = {} if header is None else {**output.summary(header), "prompt": header.prompt_hash}
    return {"at": at, "artifact": artifact, "deleted": header is None, **known}


def diff(args: argparse.Namespace) -> int:
    """How two artifacts and the prompts that they came from differ."""
    config = options.config(args)
    with Store(config.store.folder, "read") as store:
        a, b = store.header(args.a), store.header(args.b)
        before, after = store.source(a.prompt_hash), store.source(b.prompt_hash)
    parts = changes(before, after) if before is not None and after is not None else []
    fields = list(_differences(a, b))
    if args.json:
        told = [{"field": name, "a": x, "b": y} for name, x, y in fields]
        shown = [[part.sign, part.text] for part in parts]
        output.json_line({"a": a.id, "b": b.id, "differences": told, "prompt": shown})
        return 0
    print(render(("", a.id, b.id), [(name, str(x), str(y)) for name, x, y in fields]))
    print(f"\n{_prompts(a, b, parts)}")
    return 0


def _prompts(a: Header, b: Header, parts: list[Change]) -> str:
    if a.prompt_hash == b.prompt_hash:
        return "both came from the same prompt"
    if not parts:
        return "the prompts differ, and are not both in the store"
    return difference.coloured(parts) if sys.stdout.isatty() else difference.marked(parts)


def _differences(a: Header, b: Header) -> Iterator[tuple[str, object, object]]:
    pairs = [(name, getattr(a, name), getattr(b, name)) for name in _COMPARED]
    pairs.append(("size_bytes", a.size_bytes, b.size_bytes))
    ours, theirs = asdict(a.fidelity), asdict(b.fidelity)
    pairs += [(name, ours[name], theirs[name]) for name in ours]
    pairs += [(f"fit.{k}", a.fit.get(k), b.fit.get(k)) for k in sorted({*a.fit, *b.fit})]
    yield from ((name, x, y) for name, x, y in pairs if x != y)


def _name(name: Name) -> dict[str, Any]:
    moves = [asdict(move) for move in name.moves]
    return {"name": name.name, "artifact": name.artifact, "pinned": name.pinned, "moves": moves}
