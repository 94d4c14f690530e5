"""Calls between processes: bounded frames, errors that stay what they were, callers that leave."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pcompiler import errors
from pcompiler.errors import Busy, Gone, InputError, NotFoundError, Overloaded, PcompilerError
from pcompiler.serve import wire
from pcompiler.serve.wire import Door

KINDS = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, PcompilerError)]


def away() -> Gone:
    return Gone("it is away.", 3.0)


def served(path: Path, work: Callable[[Door], Awaitable[None]], **handlers: wire.Handler) -> None:
    """Run with an open door."""

    async def run() -> None:
        door = Door(handlers)
        await door.open(path)
        try:
            await asyncio.wait_for(work(door), 20)
        finally:
            await door.close(0)

    asyncio.run(run())


async def echo(given: Any) -> AsyncIterator[Any]:
    for item in given:
        yield item


async def collected(path: Path, name: str, given: Any) -> list[Any]:
    return [item async for item in wire.call(path, name, given, away)]


def test_what_is_sent_comes_back_item_by_item(tmp_path: Path) -> None:
    async def work(_: Door) -> None:
        items = [1, "zwei", {"drei": [None, 0.1, "😀"]}, ["x" * 300_000]]
        assert await collected(tmp_path / "s", "echo", items) == items
        assert await collected(tmp_path / "s", "echo", []) == []
        many = await asyncio.gather(*(collected(tmp_path / "s", "echo", [n]) for n in range(50)))
        assert many == [[n] for n in range(50)]

    served(tmp_path / "s", work, echo=echo)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_on_the_other_side_what_it_was(kind: type[PcompilerError]) -> None:
    again = wire.untold(wire.told(kind("what is wrong")))
    assert type(again) is kind
    assert str(again) == "what is wrong"


def test_an_overload_says_when_to_come_back() -> None:
    again = wire.untold(wire.told(Busy("full", 7.5)))
    assert isinstance(again, Overloaded)
    assert again.retry_after_s == 7.5


def test_an_error_that_nobody_foresaw_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    again = wire.untold(wire.told(ValueError("a secret")))
    assert type(again) is PcompilerError
    assert "secret" not in str(again)
    assert "a secret" in caplog.text


def test_names_from_the_wire_make_nothing_but_our_errors() -> None:
    for name in ("Any", "annotations", "TYPE_CHECKING", "system", "Exception"):
        assert type(wire.untold({"type": name, "message": "m"})) is PcompilerError


def test_an_error_after_some_items_comes_after_them(tmp_path: Path) -> None:
    async def broken(_: Any) -> AsyncIterator[int]:
        yield 1
        raise NotFoundError("there is none")

    async def work(_: Door) -> None:
        items = wire.call(tmp_path / "s", "broken", None, away)
        assert await anext(items) == 1
        with pytest.raises(NotFoundError, match="there is none"):
            await anext(items)

    served(tmp_path / "s", work, broken=broken)


@pytest.mark.parametrize("error", [asyncio.TimeoutError("too late"), OSError("no space")])
def test_an_error_of_the_system_is_not_taken_for_a_caller_that_left(
    tmp_path: Path, error: Exception
) -> None:
    async def broken(_: Any) -> AsyncIterator[int]:
        yield 1
        raise error

    async def work(_: Door) -> None:
        kind, told = (
            (asyncio.TimeoutError, "too late")
            if isinstance(error, asyncio.TimeoutError)
            else (PcompilerError, "log has it")
        )
        with pytest.raises(kind, match=told):
            await collected(tmp_path / "s", "broken", None)

    served(tmp_path / "s", work, broken=broken)


def test_who_is_not_there_is_away(tmp_path: Path) -> None:
    with pytest.raises(Gone, match="away"):
        asyncio.run(collected(tmp_path / "none", "echo", []))


@pytest.mark.parametrize("leaves", ["by closing", "by being cancelled"])
def test_a_caller_that_leaves_ends_its_call(tmp_path: Path, leaves: str) -> None:
    async def work(_: Door) -> None:
        ended = asyncio.Event()

        async def endless(_: Any) -> AsyncIterator[int]:
            try:
                yield 0
                await asyncio.sleep(1000)
            finally:
                ended.set()

        other = Door({"endless": endless})
        await other.open(tmp_path / "other")

        async def caller() -> None:
            async with aclosing(wire.call(tmp_path / "other", "endless", None, away)) as items:
                async for _ in items:
                    if leaves == "by closing":
                        return
                    begun.set()

        begun = asyncio.Event()
        task = asyncio.ensure_future(caller())
        if leaves == "by being cancelled":
            await begun.wait()
            task.cancel()
        await asyncio.wait({task})
        await asyncio.wait_for(ended.wait(), 5)
        await other.close(0)

    served(tmp_path / "s", work)


def test_a_door_that_closes_lets_calls_end_and_tells_those_that_do_not(tmp_path: Path) -> None:
    async def run() -> None:
        async def slow(given: float) -> AsyncIterator[str]:
            yield "begun"
            await asyncio.sleep(given)
            yield "ended"

        door, begun = Door({"slow": slow}), asyncio.Semaphore(0)
        await door.open(tmp_path / "s")

        async def caller(seconds: float) -> list[str]:
            seen = []
            async for item in wire.call(tmp_path / "s", "slow", seconds, away):
                seen.append(item)
                begun.release()
            return seen

        soon, late = asyncio.ensure_future(caller(0.2)), asyncio.ensure_future(caller(1000))
        await begun.acquire()
        await begun.acquire()
        await door.close(1.0)
        assert await soon == ["begun", "ended"]
        with pytest.raises(Gone, match="stopping"):
            await late
        with pytest.raises(Gone, match="away"):
            await collected(tmp_path / "s", "slow", 0)

    asyncio.run(run())


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00",
        b"\xff\xff\xff\xff",
        (wire.MAX_BYTES + 1).to_bytes(4, "big") + b"{}",
        b"\x00\x00\x00\x02{]",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x04null",
        b'\x00\x00\x00\x0f{"call":"none"}',
        b"\x00\x00\x00\x10{}",
    ],
)
def test_what_is_no_call_is_let_go_and_others_are_answered(
    tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(_: Door) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(sent)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert await collected(tmp_path / "s", "echo", [1]) == [1]

    served(tmp_path / "s", work, echo=echo)
    assert "Unhandled" not in caplog.text
    assert "never retrieved" not in caplog.text


def test_a_message_that_is_too_long_is_refused_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 1000)

    async def large(_: Any) -> AsyncIterator[str]:
        yield "x" * 2000

    async def work(_: Door) -> None:
        for name, given in (("echo", ["x" * 2000]), ("large", None)):
            with pytest.raises(InputError, match="1,000 are allowed"):
                await collected(tmp_path / "s", name, given)

    served(tmp_path / "s", work, echo=echo, large=large)


def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    async def work(_: Door) -> None:
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600

    served(tmp_path / "s", work)
