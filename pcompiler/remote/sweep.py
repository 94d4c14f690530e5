"""Removes from a bucket what no artifact there names: what killed writers and deletions left.

A writer puts body and texts before the header that names them, so what is young is left alone. A
writer that comes upon something old puts it again (``parcel.send``): it is young then, and is
looked at once more just before it would be removed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pcompiler import progress
from pcompiler.errors import DamageError, MismatchError
from pcompiler.remote import parcel
from pcompiler.remote.bucket import Bucket, Found
from pcompiler.sharing import SWEPT_AFTER_H

OLD_S = SWEPT_AFTER_H * 3_600.0  # longer than parcel.FRESH_S and the longest upload together
SIDE_BY_SIDE = 32  # requests
T = TypeVar("T")


@dataclass(frozen=True)
class Swept:
    """What no artifact named, and is gone; in a dry run: would be."""

    bodies: int
    texts: int
    size_bytes: int


def sweep(bucket: Bucket, older_s: float = OLD_S, dry_run: bool = False) -> Swept:
    """Remove bodies and texts that no header in a bucket names.

    Args:
        bucket: where. What is there under other keys than ours stays.
        older_s: what was written since stays; less than ``OLD_S`` only while nobody uploads.
        dry_run: only look.

    Raises:
        DamageError, MismatchError: a header that cannot be read, or is of a newer format: what it
            names cannot be told, and nothing was removed.
        RemoteError: no answer, or a refusal; what is gone by then was named by nobody.
    """
    until = time.time() - older_s
    orphans = bucket.run(_unnamed(bucket, until, set(_named(bucket))))
    gone = orphans if dry_run else list(_removed(bucket, orphans, until))
    bodies = sum(found.key.startswith(parcel.BODIES) for found in gone)
    return Swept(bodies, len(gone) - bodies, sum(found.size_bytes for found in gone))


def _named(bucket: Bucket) -> Iterator[str]:
    """Keys that headers name; each header is read, many side by side."""
    ids = bucket.run(_ids(bucket))
    with progress.bar(len(ids), "reading headers", "artifact") as shown:
        for some in _chunks(ids):
            try:
                headers = bucket.run(_all(parcel.header_of(bucket, name) for name in some))
            except (DamageError, MismatchError) as e:
                raise type(e)(
                    f"{e} What it names cannot be told, so nothing was removed. 'pcompiler store "
                    "push ID --replace' mends a header, 'store delete ID --everywhere' removes it."
                ) from None
            for header in headers:
                if header is not None:  # else it was deleted meanwhile
                    yield from parcel.parts_of(header)
            shown.update(len(some))


async def _unnamed(bucket: Bucket, until: float, named: set[str]) -> list[Found]:
    return [
        found
        for folder in (parcel.BODIES, parcel.TEXTS)
        async for found in bucket.list(folder)
        if found.modified <= until and found.key not in named and parcel.is_part(found.key)
    ]


def _removed(bucket: Bucket, orphans: list[Found], until: float) -> Iterator[Found]:
    """Those that are gone: a writer may just have put one of them again."""
    with progress.bar(len(orphans), "removing", "object") as shown:
        for some in _chunks(orphans):
            gone = bucket.run(_all(_remove(bucket, found, until) for found in some))
            yield from (found for found, went in zip(some, gone, strict=True) if went)
            shown.update(len(some))


async def _remove(bucket: Bucket, orphan: Found, until: float) -> bool:
    now = await bucket.find(orphan.key)
    if now is None or now.modified > until:
        return False
    await bucket.delete(orphan.key)
    return True


async def _ids(bucket: Bucket) -> list[str]:
    return [name async for name in parcel.listed(bucket)]


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    return await asyncio.gather(*works)


def _chunks(things: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(things), SIDE_BY_SIDE):
        yield things[start : start + SIDE_BY_SIDE]
