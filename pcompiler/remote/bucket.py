"""An object store as we use it: whole objects by key, calls that end in time, errors in words.

obstore takes credentials and endpoints from the environment (AWS_…, GOOGLE_…, AZURE_…); nothing
here reads, keeps or repeats them. Of what a server answers an error has the status, not the text.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, TypeVar

from pcompiler import meter
from pcompiler.closing import Closing
from pcompiler.errors import ConfigError, DamageError, RemoteError, StoreUnavailable

RETRIES = 2  # of one request, within its time; uploads are tried again for as long as it takes
SLOWEST = 2**18  # bytes a second: many bytes may take longer than one request
PART_BYTES = 8 * 2**20  # what is larger goes up in parts of so many
PARTS = 4  # side by side
LONGEST_S = 3_600.0
_PLAIN_HTTP = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3}[ A-Za-z]{0,40})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """An object that is there; ``modified`` is when it was written, in seconds since 1970."""

    key: str
    size_bytes: int
    modified: float

    @classmethod
    def of(cls, told: Any) -> Found:  # noqa: ANN401 - obstore's description of an object
        """What obstore tells of it."""
        return cls(told["path"], told["size"], told["last_modified"].timestamp())


class Bucket(Closing):
    """A bucket, or a folder. Its calls are coroutines; ``run`` runs them, from any thread.

    Args:
        url: see ``sharing.check_remote``.
        timeout_s: of one request, beside what many bytes take.

    Raises:
        ConfigError: obstore is not installed, or does not make out the URL.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url, self._timeout_s = url, timeout_s
        self._store = _opened(url, timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something, and wait for it. Raises StoreUnavailable: the bucket was closed."""
        with self._starting:
            if self._closed:
                work.close()
                raise StoreUnavailable(f"the remote {self.url} is closed.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="remote", daemon=True
                )
                self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise StoreUnavailable(f"the remote {self.url} is closed.") from None
        except BaseException:  # Ctrl-C as well: nobody waits for it any more
            future.cancel()
            raise

    def close(self) -> None:
        """Break off what is under way; closing twice does nothing."""
        with self._starting:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def get(self, key: str, most: int) -> bytes | None:
        """An object, or nothing where there is none.

        Raises:
            DamageError: it has more than ``most`` bytes; they are not fetched.
            RemoteError: no answer, or a refusal.
        """
        import obstore

        with self._translating():
            try:
                found = await self._in_time(obstore.get_async(self._store, key))
            except FileNotFoundError as e:
                self._check_bucket(e)
                return None
            size = found.meta["size"]
            if size > most:
                raise DamageError(f"{key} in {self.url} has {size} bytes, not {most} at most.")
            data = (await self._in_time(found.bytes_async(), size)).to_bytes()
        meter.count("remote_bytes", len(data), side="read")
        return data

    async def find(self, key: str) -> Found | None:
        """What is known of an object; nothing where there is none. Raises RemoteError."""
        import obstore

        with self._translating():
            try:
                return Found.of(await self._in_time(obstore.head_async(self._store, key)))
            except FileNotFoundError as e:
                self._check_bucket(e)
                return None

    async def put(self, key: str, data: bytes, *, fresh: bool = False) -> None:
        """Write an object, whole or not at all.

        Args:
            key: of the object.
            data: its bytes.
            fresh: if another writer has just put one there, leave that alone: it is the same. (Of
                what goes up in parts, the last one stays.)

        Raises:
            RemoteError: no answer, or a refusal.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        in_parts = len(data) > PART_BYTES
        writing = obstore.put_async(
            self._store,
            key,
            data,
            mode="create" if fresh and not in_parts else "overwrite",
            use_multipart=in_parts,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS,
        )
        with self._translating(), suppress(AlreadyExistsError):
            await self._in_time(writing, len(data))
        meter.count("remote_bytes", len(data), side="written")

    async def list(self, prefix: str, after: str | None = None) -> AsyncIterator[Found]:
        """Objects in a folder whose keys sort behind ``after``, in any order.

        Raises:
            RemoteError: no answer, or a refusal.
        """
        import obstore

        with self._translating():
            pages = obstore.list(self._store, prefix, offset=after, chunk_size=1_000)
            while True:
                try:
                    page = await self._in_time(pages.__anext__())
                except StopAsyncIteration:
                    return
                for told in page:
                    yield Found.of(told)

    async def delete(self, key: str) -> None:
        """Remove an object, if it is there. Raises RemoteError."""
        import obstore

        with self._translating():
            try:
                await self._in_time(obstore.delete_async(self._store, key))
            except FileNotFoundError as e:
                self._check_bucket(e)

    async def _in_time(self, work: Awaitable[T], size_bytes: int = 0) -> T:
        limit_s = min(self._timeout_s + size_bytes / SLOWEST, LONGEST_S)
        try:
            return await asyncio.wait_for(work, limit_s)
        except asyncio.TimeoutError:
            raise RemoteError(f"the remote {self.url} did not answer in {limit_s:.3g} s.") from None

    def _check_bucket(self, error: FileNotFoundError) -> None:
        """Of an object that is not there. Raises RemoteError: neither is its bucket."""
        if _NO_BUCKET.search(str(error)):
            raise RemoteError(f"there is no bucket for {self.url}; make it, or correct the URL.")

    @contextmanager
    def _translating(self) -> Any:  # noqa: ANN401 - a context
        """Errors of obstore as ours, inside the block."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as e:
            raise RemoteError(f"the remote {self.url} {_told(e)}") from None


def _opened(url: str, timeout_s: float) -> Any:  # noqa: ANN401 - one of obstore's six
    if find_spec("obstore") is None:
        raise ConfigError("a remote needs obstore: pip install 'pcompiler[remote]'.")
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    if url.startswith("file:"):
        try:
            return from_url(url)
        except (BaseError, OSError):
            raise ConfigError(f"there is no folder at {url}; make it first.") from None
    plain = any(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in _PLAIN_HTTP)
    client: Any = {
        "allow_http": plain,  # obstore takes it from the environment only without these options
        "connect_timeout": timedelta(seconds=min(timeout_s, 5.0)),
        "timeout": timedelta(seconds=LONGEST_S),  # each call has a limit of its own
    }
    retry: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=timeout_s)}
    try:
        return from_url(url, client_options=client, retry_config=retry)
    except (BaseError, OSError) as e:
        raise ConfigError(f"cannot open the remote {url}: it {_told(e)}") from None


def _told(error: Exception) -> str:
    """What went wrong, without addresses, headers or what a server said in full."""
    if isinstance(error, PermissionError) or type(error).__name__ in (
        "PermissionDeniedError",
        "UnauthenticatedError",
    ):
        return "refuses: check the credentials in the environment, and what they may do."
    text = str(error) or type(error).__name__
    if status := _STATUS.search(text):
        code = _CODE.search(text)
        return f"answers {status[1].strip()}{f' ({code[1]})' if code else ''}."
    reason = re.sub(r"[<?].*", "", text.splitlines()[0].rsplit(" - ", 1)[-1]).strip(" :")
    return f"failed: {reason[:200]}."


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
