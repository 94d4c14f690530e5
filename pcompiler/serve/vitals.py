"""How a process of the server is: memory, CPU time, threads, open files."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pcompiler import memory, meter

_FILES = Path("/proc/self/fd")


class Vitals:
    """A source of ``meter`` for this process.

    Args:
        process: which it is; see ``measures``.
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self._cpu_told_s = 0.0
        self._limit_bytes = memory.limit_bytes()

    def listen(self) -> None:
        """See ``meter.Source``; nothing is counted in between."""

    def report(self) -> None:
        """See ``meter.Source``."""
        process, used_s = self._process, time.process_time()
        meter.gauge("memory_bytes", memory.used_bytes(), process=process)
        meter.gauge("memory_limit_bytes", self._limit_bytes)
        meter.count("cpu_seconds", used_s - self._cpu_told_s, process=process)
        self._cpu_told_s = used_s
        meter.gauge("processes", 1, process=process)
        meter.gauge("threads", threading.active_count(), process=process)
        if _FILES.is_dir():  # Linux
            meter.gauge("open_files", sum(1 for _ in _FILES.iterdir()), process=process)
