"""A busy worker is still told to stop."""

from __future__ import annotations

import asyncio
import os
import signal

from pcompiler.serve.http.signals import heed

CALLS = 5_000  # more than the pipe of a loop holds


def test_a_signal_gets_through_while_the_pipe_that_wakes_the_loop_is_full() -> None:
    async def work() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, told.set)
        undo = heed(loop)
        for _ in range(CALLS):
            loop.call_soon_threadsafe(lambda: None)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(told.wait(), 5)
        undo()
        loop.remove_signal_handler(signal.SIGTERM)

    before = signal.set_wakeup_fd(-1)
    try:
        asyncio.run(work())
    finally:
        signal.set_wakeup_fd(before)
