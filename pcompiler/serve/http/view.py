"""A worker's own view of the store: look-ups wait for no other process, and see what it wrote.

The view follows the store's writer. It catches up when something is asked for that it does not
know, at most twenty times a second however many ask, and once in a while anyway.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pcompiler.closing import Closing
from pcompiler.codec import planes, zstd
from pcompiler.config import StoreConfig
from pcompiler.errors import Busy, DamageError, NotFoundError, PcompilerError
from pcompiler.remote.parcel import BEGINNING
from pcompiler.remote.reader import Absent
from pcompiler.serve.following import followed
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.db import Store

LEAST_S = 0.05  # between two times that the view catches up
MOST_FETCHED = 16  # look-ups that wait for a remote, so that others find room
MAX_TENSOR_BYTES = 2**30  # sent in one response
_BODY_BYTES = re.compile(rb'"body_bytes":(\d+),')
_HEAD, _DIGEST = 16, 32  # bytes of a header record around its JSON: see ``store/artifact.py``
_WHOLE_FORMAT = 2  # the last one without planes
T = TypeVar("T")


class View(Closing):
    """The store as one worker sees it.

    Args:
        folder: the store's.
        settings: of the [store] section.
        follow_s: how old the view may get, in seconds.
        fetch: has the store's writer ask the remote; see ``contract.Backend``.
    """

    def __init__(
        self,
        folder: Path,
        settings: StoreConfig,
        follow_s: float = 1.0,
        fetch: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._folder, self._settings, self._follow_s = folder, settings, follow_s
        self._fetch = fetch if settings.remote else None
        self._fetching, self._absent = 0, Absent(settings.remote_absent_s)
        self._store: Store | None = None
        self._last = 0.0
        self._next: asyncio.Task[None] | None = None

    @property
    def store(self) -> Store:
        """The store, opened when it is first there. Raises Gone: it is not."""
        if self._store is None:
            self._store = followed(self._folder, self._settings)
        return self._store

    def close(self) -> None:
        """Let go of the store; it is opened anew when it is asked for."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def record(self, artifact_id: str) -> bytes | None:
        """The header record with exactly this id; see ``shown``."""
        return self.store.records.get("artifacts", artifact_id.encode())

    async def fresh(self) -> None:
        """See what the writer has written until now."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._catch_up())
        await asyncio.shield(self._next)

    async def _catch_up(self) -> None:
        try:
            await asyncio.sleep(self._last + LEAST_S - time.monotonic())
        finally:
            self._next = None  # who comes from now on may mean what is written from now on
        self._last = time.monotonic()
        store = self.store
        try:
            await asyncio.to_thread(store.catch_up)
        except PcompilerError:
            self.close()  # the files were replaced, say; they are opened anew

    async def follow(self) -> None:
        """Catch up for as long as the worker lives."""
        while True:
            await asyncio.sleep(self._follow_s)
            with suppress(PcompilerError):
                await self.fresh()

    async def known(self, find: Callable[[], T | None]) -> T | None:
        """What is found, if need be after catching up."""
        found = find()
        if found is None:
            await self.fresh()
            found = find()
        return found

    async def header(self, name: str) -> Header:
        """The header of what has this name or id, or the only one whose id begins so.

        What only a remote has is fetched first.

        Raises:
            NotFoundError: none, or several.
            RemoteError: it is not here, and the remote does not answer.
            Busy: too many wait for the remote.
        """
        found = await self.known(lambda: self._header(name))
        if found is None and await self._fetched(name):
            await self.fresh()
            found = self._header(name)
        if found is None:
            raise NotFoundError(
                f"there is no artifact {name[:80]!r}, or several whose ids begin so; "
                "GET /v1/artifacts lists them, GET /v1/names their names."
            )
        return found

    async def _fetched(self, name: str) -> bool:
        """Whether the remote had it, so that it is in the store now. Raises Busy, RemoteError."""
        if self._fetch is None or not BEGINNING.fullmatch(name) or name in self._absent:
            return False
        if self._fetching >= MOST_FETCHED:
            raise Busy(f"{MOST_FETCHED} look-ups wait for the remote already; come back later.")
        self._fetching += 1
        try:
            found = await self._fetch(name)
        finally:
            self._fetching -= 1
        if not found:
            self._absent.add(name)
        return found

    def _header(self, name: str) -> Header | None:
        try:
            return self.store.header(name)
        except NotFoundError:
            return None

    async def tensors(self, header: Header) -> bytes:
        """An artifact's tensors as safetensors bytes.

        Raises:
            NotFoundError: they were deleted, or are too many to be sent.
            DamageError: they are not what was written.
        """
        if header.tensor_bytes > MAX_TENSOR_BYTES:
            raise NotFoundError(
                f"the tensors of {header.id} have {header.tensor_bytes:,} bytes; over HTTP there "
                f"are {MAX_TENSOR_BYTES:,} at most. 'pcompiler export' writes them to a file."
            )
        return await asyncio.to_thread(self._tensors, header)

    def _tensors(self, header: Header) -> bytes:
        body = self.store.records.get("tensors", header.id.encode())
        if body is None:
            raise NotFoundError(f"the tensors of {header.id} were deleted.")
        Artifact(header, body).check()
        data = zstd.decompress(body, header.tensor_bytes)
        return data if header.format <= _WHOLE_FORMAT else planes.whole(data)


def shown(record: bytes) -> bytes:
    """What a client sees of a header record: its JSON as it is stored, and the size."""
    text = record[_HEAD:-_DIGEST]
    size = _BODY_BYTES.search(text)
    if size is None or not text.startswith(b"{"):
        raise DamageError("a header that does not read as one; see 'pcompiler store check'.")
    return b'{"size_bytes":%d,' % (len(record) + int(size[1])) + text[1:]


def tag(record: bytes) -> str:
    """The entity tag of a header record, from its digest."""
    return f'"{record[-_DIGEST : -_DIGEST // 2].hex()}"'
