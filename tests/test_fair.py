"""Whoever asks much does not keep the others waiting."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pcompiler.errors import Busy
from pcompiler.serve.fair import FairQueue
from pcompiler.serve.turns import Turns


def test_clients_take_turns_and_each_ones_own_stay_in_order() -> None:
    queue: FairQueue[str] = FairQueue(200, "chats")
    for number in range(100):
        queue.put("a", f"a{number}")
    queue.put("b", "b0")
    queue.put("c", "c0")
    queue.put("b", "b1")
    assert [queue.pop() for _ in range(6)] == ["a0", "b0", "c0", "a1", "b1", "a2"]
    assert len(queue) == 97
    assert [queue.pop() for _ in range(97)] == [f"a{n}" for n in range(3, 100)]
    assert queue.pop() is None


def test_a_full_queue_says_so_and_keeps_a_place_for_who_has_none() -> None:
    queue: FairQueue[int] = FairQueue(8, "chats", 3.0)
    for number in range(6):
        queue.put("a", number)
    with pytest.raises(Busy, match="6 chats are waiting") as refused:
        queue.put("a", 6)
    assert refused.value.retry_after_s == 3.0
    queue.put("b", 7)
    queue.put("c", 8)
    with pytest.raises(Busy):
        queue.put("d", 9)
    assert len(queue) == 8


def test_what_is_removed_never_comes_out() -> None:
    queue: FairQueue[int] = FairQueue(8, "chats")
    queue.put("a", 1)
    queue.put("a", 2)
    queue.put("b", 3)
    assert queue.remove(1)
    assert queue.remove(3)
    assert not queue.remove(3)
    assert list(queue) == [2]
    assert (queue.pop(), queue.pop()) == (2, None)


def test_who_has_many_texts_does_not_keep_the_thread_from_others() -> None:
    order: list[str] = []

    async def work() -> None:
        turns, begun, go_on = Turns(8, "test"), threading.Event(), threading.Event()

        def first() -> None:
            begun.set()
            assert go_on.wait(10)

        holding = asyncio.ensure_future(turns.run("a", first))
        await asyncio.to_thread(begun.wait, 10)
        names = ("a0", "a1", "a2", "b0")
        asking = {
            n: asyncio.ensure_future(turns.run(n[0], lambda n=n: order.append(n))) for n in names
        }
        await asyncio.sleep(0)
        asking["a1"].cancel()
        go_on.set()
        await asyncio.gather(holding, *asking.values(), return_exceptions=True)
        await turns.run("c", lambda: order.append("c"))  # no turn was lost
        turns.close()

    asyncio.run(asyncio.wait_for(work(), 30))
    assert order == ["a0", "b0", "a2", "c"]
