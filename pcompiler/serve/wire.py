"""How workers and the processes behind them talk: one call a connection, frames of JSON.

    caller  → {"call": name, "with": arguments}
    callee  → {"item": …} any number of times, then {"end": null} or {"error": {…}}

A caller that closes its connection cancels the call. A frame is its length in four bytes, then so
many bytes of JSON; nobody reads more than ``MAX_BYTES`` of one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from pcompiler import errors
from pcompiler.errors import Gone, Overloaded, PcompilerError

MAX_BYTES = 2**26
_HEAD = 4
Handler = Callable[[Any], AsyncIterator[Any]]
log = logging.getLogger("pcompiler.serve")


async def read(reader: asyncio.StreamReader) -> Any:  # noqa: ANN401
    """The next frame.

    Raises:
        asyncio.IncompleteReadError: the other side is gone.
        ValueError: what came is no frame.
    """
    size = int.from_bytes(await reader.readexactly(_HEAD), "big")
    if size > MAX_BYTES:
        raise ValueError(f"a frame of {size:,} bytes; {MAX_BYTES:,} are allowed.")
    return json.loads(await reader.readexactly(size))


async def write(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    """Send a frame; waits while the other side does not read. Raises InputError: too long."""
    body = json.dumps(message).encode()
    if len(body) > MAX_BYTES:
        raise errors.InputError(f"a message of {len(body):,} bytes; {MAX_BYTES:,} are allowed.")
    writer.write(len(body).to_bytes(_HEAD, "big") + body)
    await writer.drain()


def told(error: BaseException) -> dict[str, Any]:
    """An error as JSON; of one that nobody foresaw, nothing but that it happened."""
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return {"type": "TimeoutError", "message": str(error)}
    if not isinstance(error, PcompilerError):
        log.error("a call failed", exc_info=error)
        return {"type": "PcompilerError", "message": "something failed; the server's log has it."}
    wait = {"retry_after_s": error.retry_after_s} if isinstance(error, Overloaded) else {}
    return {"type": type(error).__name__, "message": str(error), **wait}


def untold(error: Mapping[str, Any]) -> Exception:
    """The error again, as what it was."""
    name, message = error["type"], error["message"]
    if name == "TimeoutError":
        return asyncio.TimeoutError(message)
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, PcompilerError)):
        return PcompilerError(message)
    if issubclass(kind, Overloaded):
        return kind(message, error["retry_after_s"])
    return kind(message)


async def call(
    path: Path,
    name: str,
    arguments: Any,  # noqa: ANN401
    away: Callable[[], Gone],
) -> AsyncIterator[Any]:
    """What a call answers, item by item; closing the iterator cancels it.

    Args:
        path: the socket.
        name: of the call.
        arguments: anything that JSON has.
        away: the error for a process that is not there, or is no more.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        raise away() from None
    try:
        await write(writer, {"call": name, "with": arguments})
        while "item" in (message := await read(reader)):
            yield message["item"]
    except (asyncio.IncompleteReadError, ConnectionError):
        raise away() from None
    finally:
        writer.close()
    if "error" in message:
        raise untold(message["error"])


class Door:
    """A socket where a process takes calls.

    Args:
        handlers: by name, an async generator function of the arguments.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def open(self, path: Path) -> None:
        """Take calls here; the folder is private to this user."""
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, str(path), limit=2**20)
        path.chmod(0o600)

    async def close(self, drain_s: float) -> None:
        """Take no calls any more; those under way have so long to end, and are then cancelled."""
        assert self._server is not None
        self._server.close()
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=5)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            await self._run(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller is gone
        except ValueError as e:
            log.warning("a call that is none: %s", e)
        finally:
            self._calls.discard(task)
            writer.close()

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read(reader)
        work = asyncio.ensure_future(self._items(request, writer))
        left = asyncio.ensure_future(reader.read(1))  # nothing comes but the caller's going
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # of ``close``
            await _ended(work)
            with suppress(ConnectionError):
                await write(writer, {"error": told(Gone("the server is stopping.", 5.0))})
        finally:
            await _ended(left)
            await _ended(work)

    async def _items(self, request: Any, writer: asyncio.StreamWriter) -> None:  # noqa: ANN401
        last: dict[str, Any] = {"end": None}
        try:
            handler = self._handlers[request["call"]]
            async with aclosing(handler(request["with"])) as items:  # type: ignore[type-var]
                async for item in items:
                    await write(writer, {"item": item})
        except ConnectionError:
            raise
        except Exception as e:  # a TimeoutError is an OSError too, hence not all of those above
            last = {"error": told(e)}
        await write(writer, last)


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and isinstance(task.exception(), Exception):
        log.debug("a call broke off: %s", task.exception())
