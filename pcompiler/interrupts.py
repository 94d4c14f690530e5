"""Ctrl-C for the command line: not lost in an import.

Of the libraries that take seconds to import, some drop a KeyboardInterrupt and some stay half
imported after one: the run goes on, or fails later with an error that hides the cause.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130


@contextmanager
def heard_in_imports(say: Callable[[], object]) -> Iterator[None]:
    """Let Ctrl-C end the process at once inside an import; elsewhere it is KeyboardInterrupt.

    Does nothing outside the main thread, and where the caller handles or ignores SIGINT.

    Args:
        say: tells the user, before the process ends with 130.
    """

    def handle(_: int, frame: FrameType | None) -> None:
        if not _importing(frame):
            raise KeyboardInterrupt
        try:
            say()
            sys.stdout.flush()
        finally:
            os._exit(EXIT_CODE)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
