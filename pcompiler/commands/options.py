"""From arguments to settings, artifacts, prompts and probes."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcompiler.config import Config, TargetConfig
from pcompiler.errors import DamageError, InputError, MismatchError, NotFoundError, StoreUnavailable
from pcompiler.frontend import read_source
from pcompiler.remote import opened
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.db import Store, holds_store
from pcompiler.store.key import content_hash

MAX_ARTIFACT_BYTES = 16 * 2**30
_FIELDS = {
    "model": {"model": "name", "device": "device"},
    "compile": {name: name for name in ("target", "seed", "min_agreement", "max_kl")},
    "targets": {f.name: f.name for f in dataclasses.fields(TargetConfig)},
    "probes": {"fitting": "fitting"},
    "store": {
        "store": "path",
        "size": "dictionary_bytes",
        "max_bytes": "max_bytes",
        "remote": "remote",
    },
    "embed": {"provider": "provider"},
    "serve": {name: name for name in ("host", "port", "workers", "api_key_file")},
}


def config(args: argparse.Namespace) -> Config:
    """Options go before the --config file, and that before the defaults."""
    base = Config.load(args.config) if args.config else Config()
    given = vars(args)
    parts: dict[str, Any] = {}
    for section, names in _FIELDS.items():
        values = {f: given[o] for o, f in names.items() if given.get(o) is not None}
        parts[section] = replace(getattr(base, section), **values)
    return replace(base, **parts)


def for_artifact(settings: Config, args: argparse.Namespace, header: Header) -> Config:
    """The artifact's own model, unless --model names one."""
    name = args.model or header.model_name
    dtype = header.model["dtype"] if settings.model.dtype == "auto" else settings.model.dtype
    return replace(settings, model=replace(settings.model, name=name, dtype=dtype))


def headers(settings: Config) -> list[Header]:
    """All headers of the store; none where there is no store yet."""
    if not holds_store(settings.store.folder):
        return []
    with Store(settings.store.folder, access="read") as store:
        return list(store.headers())


def load(name: str, settings: Config) -> tuple[Artifact, str | None]:
    """An artifact by file or id, and its prompt where the store has it."""
    if Path(name).is_file():
        artifact = _read_file(Path(name))
        return artifact, _stored(settings, "source", artifact.header.prompt_hash)
    try:
        bring(name, settings)
    except StoreUnavailable:  # another process writes: what comes from elsewhere is not kept
        from pcompiler.remote.shared import peeked

        found = peeked(name, settings.store)
        if found is None:
            raise
        return found.artifact, found.source
    with Store(settings.store.folder, access="read") as store:
        artifact = store.get(name)
        return artifact, store.source(artifact.header.prompt_hash)


def bring(name: str, settings: Config) -> None:
    """Have an artifact in the store that only its remote may have.

    Raises:
        NotFoundError: neither has it, nor is a store here.
    """
    folder = settings.store.folder
    if not settings.store.remote:
        return
    if holds_store(folder):
        with suppress(NotFoundError), Store(folder, access="read") as store:
            store.header(name)
            return
    with opened(settings.store) as store:
        store.header(name)


def prompt_of(header: Header, stored: str | None, path: str | None) -> str:
    """The full prompt of an artifact: from the store, or from a file with the same hash."""
    source = read_source(path) if path else stored
    if source is None:
        raise InputError("the store does not have this artifact's prompt; give --prompt FILE.")
    if content_hash(source) != header.prompt_hash:
        raise InputError(f"{path} is not the prompt that artifact {header.id} was compiled from.")
    return source


def probes_of(header: Header, settings: Config) -> str | None:
    """The probes that an artifact was measured on, where the store has them."""
    return _stored(settings, "probes", header.probes_hash)


def _stored(settings: Config, what: str, key: str) -> str | None:
    folder = settings.store.folder
    if not holds_store(folder):
        return None
    with Store(folder, access="read") as store:
        text: str | None = getattr(store, what)(key)
        return text


def _read_file(path: Path) -> Artifact:
    size = path.stat().st_size
    if size > MAX_ARTIFACT_BYTES:
        raise InputError(f"{path} has {size} bytes; an artifact has {MAX_ARTIFACT_BYTES} at most.")
    try:
        return Artifact.decode(path.read_bytes())
    except (DamageError, MismatchError) as e:
        raise type(e)(f"{path} is not a whole artifact: {e}") from None
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}.") from None
