"""``pcompiler store dictionary train | list``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pcompiler.codec import dictionary as codec
from pcompiler.codec.dictionary import Dictionary, Saving
from pcompiler.commands import options, output
from pcompiler.errors import InputError
from pcompiler.frontend.parse import MAX_BYTES as MAX_FILE_BYTES
from pcompiler.progress import waiting
from pcompiler.store.db import Store, holds_store
from pcompiler.store.texts import LEVEL
from pcompiler.table import nbytes, percent, render

MAX_READ_BYTES = 2**28  # of samples, of which a part is learnt from
MAX_NAME = 64
_COLUMNS = ("dictionary", "name", "version", "size", "samples", "records", "created", "")


def train(args: argparse.Namespace) -> int:
    """Learn a dictionary from nine tenths of the samples, and measure it on the last."""
    config = options.config(args)
    name = _name(args.name)
    folder = config.store.folder
    if not args.sources and not holds_store(folder):
        raise InputError(f"there is no store at {folder} to learn from; give --from FILES.")
    with Store(folder, settings=config.store) as store:
        found = _files(args.sources) if args.sources else (t.encode() for t in store.texts())
        fitted, held_out = codec.hold_out(_at_most(found))
        version = 1 + max((d.version for d, _ in store.dictionaries() if d.name == name), default=0)
        size = config.store.dictionary_bytes
        with waiting(f"learning from {len(fitted)} samples"):
            learnt = codec.train(fitted, size, name=name, version=version, level=LEVEL)
            saving = codec.measure(held_out, learnt, LEVEL)
        if saving.saved <= 0:
            raise InputError(
                f"nothing is gained: {saving.samples} held-out samples take {saving.zstd_bytes} "
                f"bytes without the dictionary and {saving.dictionary_bytes} with it. It was not "
                "stored; give samples that are more alike, or more of them."
            )
        learnt = store.add_dictionary(learnt)
    if args.json:
        output.json_line(
            {
                "store": str(folder),
                **_summary(learnt),
                "held_out": asdict(saving) | {"saved": saving.saved},
            }
        )
    else:
        print(_report(learnt, saving))
    return 0


def list_(args: argparse.Namespace) -> int:
    """All dictionaries, a line each."""
    folder = options.config(args).store.folder
    current, found = None, []
    if holds_store(folder):
        with Store(folder, access="read") as store:
            current, found = store.dictionary(), store.dictionaries()
    if args.json:
        known = [_summary(d) | {"records": n, "current": d == current} for d, n in found]
        output.json_line({"store": str(folder), "dictionaries": known})
    elif not found:
        print(f"the store {folder} has no dictionary; see 'pcompiler store dictionary train'.")
    else:
        print(render(_COLUMNS, [_row(d, n, d == current) for d, n in found]))
    return 0


def _name(name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InputError(f"--name {name!r} must have 1 to {MAX_NAME} printable characters.")
    return name


def _files(sources: list[str]) -> Iterator[bytes]:
    """A sample for each file, or for each line of a .jsonl; a folder stands for its texts."""
    for source in map(Path, sources):
        if not source.is_dir():
            yield from _samples(source, _read(source))
            continue
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            data = _read(path)
            if _is_text(data):
                yield from _samples(path, data)


def _samples(path: Path, data: bytes) -> list[bytes]:
    return data.splitlines() if path.suffix == ".jsonl" else [data]


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path} is over {MAX_FILE_BYTES >> 20} MiB; give smaller files.")
    return data


def _at_most(samples: Iterator[bytes]) -> Iterator[bytes]:
    left = MAX_READ_BYTES
    for sample in samples:
        left -= len(sample)
        if left < 0:
            return
        yield sample


def _summary(dictionary: Dictionary) -> dict[str, Any]:
    fields = asdict(dictionary)
    size = len(fields.pop("data"))
    return {"dictionary": fields.pop("id"), **fields, "size_bytes": size}


def _row(d: Dictionary, records: int, current: bool) -> tuple[str, ...]:
    size, mark = nbytes(len(d.data)), "current" if current else ""
    return (
        *(str(d.id), d.name, str(d.version), size),
        *(str(d.samples), str(records), d.created[:16], mark),
    )


def _report(d: Dictionary, saving: Saving) -> str:
    plain, alone, together = saving.plain_bytes, saving.zstd_bytes, saving.dictionary_bytes
    rows = [
        ("as they are", nbytes(plain), ""),
        ("zstd", nbytes(alone), percent(1 - alone / plain)),
        ("zstd with it", nbytes(together), percent(1 - together / plain)),
    ]
    return "\n".join(
        [
            f"dictionary {d.id} ({d.name}, version {d.version}): {nbytes(len(d.data))}, learnt "
            f"from {d.samples} samples",
            "",
            render((f"{saving.samples} held-out samples", "size", "saved"), rows),
            f"{percent(saving.saved)} smaller with it; prompts and probes stored from now on use "
            "it, those before stay as they are",
        ]
    )
