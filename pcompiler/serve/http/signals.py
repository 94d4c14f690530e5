"""Signals that arrive however busy a worker is."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

AGAIN_S = 0.01


def heed(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Keep signals from being lost in the pipe that also wakes the loop.

    asyncio hears of a signal by a byte in the pipe into which each ``call_soon_threadsafe`` writes
    as well. Granian calls it for every request, so with some hundreds of connections the pipe is
    full at times, and Python drops the byte of a SIGTERM that comes just then. Here signals have a
    pipe of their own, whose bytes are passed on as soon as there is room. In the main thread, once
    the loop has its handlers.

    Returns:
        what undoes it.
    """
    if not isinstance(loop, asyncio.SelectorEventLoop):
        return lambda: None  # others are not woken through the pipe of signals
    waking = signal.set_wakeup_fd(-1)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())

    def pass_on(numbers: bytes) -> None:
        try:
            os.write(waking, numbers)
        except BlockingIOError:
            loop.call_later(AGAIN_S, pass_on, numbers)

    def undo() -> None:
        loop.remove_reader(ours)
        signal.set_wakeup_fd(waking)
        ours.close()
        theirs.close()

    loop.add_reader(ours, lambda: pass_on(ours.recv(4_096)))
    return undo
