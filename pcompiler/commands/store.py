"""``pcompiler store list | show | delete | stats``."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from pcompiler.commands import options, output
from pcompiler.errors import ConfigError, DamageError, InputError, MismatchError
from pcompiler.remote import opened
from pcompiler.remote.parcel import WHOLE_ID
from pcompiler.store.artifact import Artifact
from pcompiler.store.db import Store, holds_store
from pcompiler.table import nbytes, render


def list_(args: argparse.Namespace) -> int:
    """All artifacts, a line each; no tensors are read."""
    config = options.config(args)
    headers = options.headers(config)
    if args.json:
        output.json_line(
            {"store": str(config.store.folder), "artifacts": [output.summary(h) for h in headers]}
        )
    elif not headers:
        print(f"the store {config.store.folder} is empty; compile a prompt first.")
    else:
        rows = [output.list_row(h) for h in headers]
        print(render(output.LIST_COLUMNS, rows))
    return 0


def show(args: argparse.Namespace) -> int:
    """All that is known of one artifact."""
    config = options.config(args)
    options.bring(args.artifact, config)
    with Store(config.store.folder, access="read") as store:
        header = store.header(args.artifact)
        shown: str | None = None
        if args.prompt:
            shown = store.source(header.prompt_hash)
        elif args.text:
            shown = _text_of(store.get(header.id))
    if shown is not None:
        output.json_line({"text": shown}) if args.json else print(shown)
    elif args.json:
        output.json_line({**asdict(header), "size_bytes": header.size_bytes})
    else:
        family, dtype = header.model["family"], header.model["dtype"]
        print(f"artifact {header.id}, {header.target} for {header.model_name} ({family}, {dtype})")
        print(f"{output.report(header)}\n\ncreated {header.created}")
        print(f"prompt {header.prompt_hash}; probes {header.probes_hash} ({header.probes_from})")
    return 0


def search(args: argparse.Namespace) -> int:
    """The prompts nearest in meaning to a text."""
    from pcompiler.commands.search_prompts import run

    return run(args)


def delete(args: argparse.Namespace) -> int:
    """Remove one artifact."""
    config = options.config(args)
    if args.everywhere and not config.store.remote:
        raise ConfigError("--everywhere means the remote as well: give --remote URL.")
    with opened(config.store) as store:
        try:
            header = store.header(args.artifact)
            deleted, what = header.id, f" ({header.target}, {nbytes(header.size_bytes)})"
        except (DamageError, MismatchError):
            if not args.everywhere or not WHOLE_ID.fullmatch(args.artifact):
                raise
            deleted, what = args.artifact, ""  # of a remote that has it damaged, by its whole id
        store.delete(deleted, everywhere=args.everywhere)
    if args.json:
        output.json_line({"deleted": deleted, "everywhere": args.everywhere})
    else:
        where = f" here and in {config.store.remote}" if args.everywhere else ""
        print(f"deleted {deleted}{what}{where}")
    return 0


def stats(args: argparse.Namespace) -> int:
    """Artifacts and bytes."""
    config = options.config(args)
    headers, folder = options.headers(config), config.store.folder
    counts = Counter(h.target for h in headers)
    on_disk = sum(f.stat().st_size for f in folder.glob("*") if f.is_file())
    in_artifacts = sum(h.size_bytes for h in headers)
    names, aside = _besides(folder)
    stats = {
        "store": str(folder),
        "artifacts": len(headers),
        "by_target": dict(counts),
        "prompts": len({h.prompt_hash for h in headers}),
        "names": names,
        "quarantined": aside,
        "artifact_bytes": in_artifacts,
        "disk_bytes": on_disk,
    }
    if args.json:
        output.json_line(stats)
    else:
        split = ", ".join(f"{n} {t}" for t, n in sorted(counts.items())) or "none"
        print(f"{folder}: {len(headers)} artifacts ({split}) of {stats['prompts']} prompts")
        print(f"{nbytes(in_artifacts)} in artifacts, {nbytes(on_disk)} on disk")
        print(f"{names} names, {aside} damaged records set aside")
    return 0


def _besides(folder: Path) -> tuple[int, int]:
    """Names, and damaged records that were set aside."""
    if not holds_store(folder):
        return 0, 0
    with Store(folder, "read") as store:
        scan = store.records.engine.scan
        return sum(1 for _ in scan("names")), sum(1 for _ in scan("quarantine"))


def _text_of(artifact: Artifact) -> str:
    text = artifact.tensors().get("text")
    if text is None:
        raise InputError(
            f"artifact {artifact.header.id} is a {artifact.header.target}, not a text."
        )
    return bytes(text.tolist()).decode()
