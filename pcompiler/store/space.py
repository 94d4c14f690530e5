"""Space given back: what no artifact needs, and artifacts that no one has used for long."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pcompiler.errors import StoreUnavailable
from pcompiler.store.artifact import Header
from pcompiler.store.engine import Change

if TYPE_CHECKING:
    from pcompiler.store.db import Store

VECTOR_PREFIX_BYTES = 8  # of what made a vector; then its text's content hash
_BATCH = 1_000


@dataclass(frozen=True)
class Freed:
    """What was removed: records by family, and their bytes."""

    tensors: int = 0
    prompts: int = 0
    probes: int = 0
    embeddings: int = 0
    record_bytes: int = 0


def collect(store: Store) -> Freed:
    """Remove tensors, prompts and probes of no artifact or draft, and vectors of other texts.

    The files shrink with it. Vectors are of texts that may be embedded again (see ``embed.cache``
    for their keys); those of the prompts that are here stay.
    """
    needed: dict[str, set[str]] = {"tensors": set(), "prompts": set(), "probes": set()}
    for header in store.headers():
        needed["tensors"].add(header.id)
        needed["prompts"].add(header.prompt_hash)
        needed["probes"] |= {header.probes_hash, str(header.fit.get("probes_hash"))}
    freed, changes = Freed(), list[Change]()
    needed["prompts"] |= {draft.prompt_hash for draft in store.drafts.all()}
    for family in (*needed, "embeddings"):
        for key, value in store.records.engine.scan(family):
            if not _is_needed(family, key, needed):
                changes.append((family, key, None))
                freed = dataclasses.replace(
                    freed,
                    **{family: getattr(freed, family) + 1},
                    record_bytes=freed.record_bytes + len(key) + len(value),
                )
    for start in range(0, len(changes), _BATCH):
        store.records.write(changes[start : start + _BATCH])
    store.records.engine.compact()
    return freed


def _is_needed(family: str, key: bytes, needed: dict[str, set[str]]) -> bool:
    if family == "embeddings":
        return key[VECTOR_PREFIX_BYTES:].hex() in needed["prompts"]
    return key.decode(errors="replace") in needed[family]


def evict(store: Store, max_bytes: int, keep: str | None = None) -> list[Header]:
    """Remove artifacts, least recently used first, until the others take ``max_bytes`` at most.

    What a pinned name points at stays, and what waits to be uploaded to the store's remote.
    Prompts and probes stay until ``collect``.

    Args:
        store: open for writing.
        max_bytes: of all artifacts together, as files have them.
        keep: id of an artifact that is neither to go nor to be counted.

    Returns:
        headers of what went.

    Raises:
        StoreUnavailable: what has to stay is larger than that; nothing was removed.
    """
    headers = [header for header in store.headers() if header.id != keep]
    safe = {name.artifact for name in store.names.all() if name.pinned}
    if store.settings.remote:  # what is nowhere else is not a copy to be dropped
        safe |= {key.decode() for key, _ in store.records.scan("uploads")}
    total = sum(header.size_bytes for header in headers)
    gone: list[Header] = []
    for header in _oldest_first(store, [h for h in headers if h.id not in safe]):
        if total <= max_bytes:
            break
        gone.append(header)
        total -= header.size_bytes
    if total > max_bytes:
        raise StoreUnavailable(
            f"artifacts that are pinned, to be uploaded or being stored take {total} bytes, more "
            f"than the limit of {max_bytes}; nothing was removed. Raise the limit, or unpin a name."
        )
    for header in gone:
        # Names wait for what a remote gives back.
        store.records.write(store.removal(header.id, unname=not store.settings.remote))
    return gone


def make_room(store: Store, max_bytes: int, coming: Header) -> list[Header]:
    """Evict until an artifact fits in as well; see ``evict``."""
    if coming.size_bytes > max_bytes:
        raise StoreUnavailable(
            f"the artifact takes {coming.size_bytes} bytes, more than the store's limit of "
            f"{max_bytes}; it was not stored. Raise [store] max_bytes."
        )
    return evict(store, max_bytes - coming.size_bytes, coming.id)


def _oldest_first(store: Store, headers: list[Header]) -> Iterator[Header]:
    last = store.uses.last()

    def used(header: Header) -> float:
        return max(last.get(header.id, 0), datetime.fromisoformat(header.created).timestamp())

    yield from sorted(headers, key=used)
