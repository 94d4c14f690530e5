"""Compiles on their way: who is next, how far they are, and how they ended."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from pcompiler import meter, progress
from pcompiler.errors import Busy, Gone, NotFoundError, PcompilerError
from pcompiler.pipeline import Compiled
from pcompiler.serve.contract import FINAL, CompileRequest, Job
from pcompiler.serve.fair import FairQueue
from pcompiler.serve.history import History
from pcompiler.serve.kinds import kind_of
from pcompiler.serve.wire import told
from pcompiler.serving import ServeConfig

TELL_S = 0.05  # between two states that differ in no more than a count
Compile = Callable[[CompileRequest], Compiled]


class Cancelled(Exception):  # noqa: N818 - an outcome
    """Raised where a compile tells its progress, and nobody wants it any more."""


@dataclass(eq=False)
class _Entry:
    """A job with what belongs to it."""

    request: CompileRequest
    job: Job
    stop: threading.Event = field(default_factory=threading.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: float = field(default_factory=time.monotonic)
    began: float = 0.0
    over: float = 0.0


class Jobs:
    """Runs compiles one at a time on a thread; everything else is of the event loop's thread.

    Args:
        compile_: compiles a request, tells its progress by ``pcompiler.progress``, and stores
            nothing where that raises.
        settings: of the [serve] section.
        history: where jobs outlive this process; none: they do not.
    """

    def __init__(
        self, compile_: Compile, settings: ServeConfig, history: History | None = None
    ) -> None:
        self._compile, self._settings = compile_, settings
        self._queue: FairQueue[_Entry] = FairQueue(settings.compile_queue, "compiles", 10.0)
        self._known: OrderedDict[str, _Entry] = OrderedDict()
        self._running: _Entry | None = None
        self._more = asyncio.Event()
        self._stopping = False
        self._history = history
        for job in history.restore() if history else ():
            known = _Entry(CompileRequest(""), job, over=time.monotonic())
            self._known[job.id] = known

    def submit(self, request: CompileRequest) -> Job:
        """Queue a compile. Raises Busy: too many wait."""
        if self._stopping:
            raise Gone("the server is stopping.", 5.0)
        self._forget()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = _Entry(request, Job(uuid.uuid4().hex, "queued", created=now))
        try:
            self._queue.put(request.client, entry)
        except Busy:
            meter.count("compile_jobs", outcome="refused")
            raise
        self._known[entry.job.id] = entry
        self._note(entry)
        self._more.set()
        return entry.job

    def job(self, job_id: str) -> Job | None:
        """Where it stands; none: there is none, or it is long over."""
        self._forget()
        entry = self._known.get(job_id)
        return None if entry is None else _aged(entry)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """Its states from now on. Raises NotFoundError."""
        entry = self._known.get(job_id)
        if entry is None:
            raise NotFoundError(f"there is no job {job_id!r}, or it is long over.")
        while True:
            changed, job = entry.changed, _aged(entry)
            yield job
            if job.status in FINAL:
                return
            await changed.wait()

    def cancel(self, job_id: str) -> bool:
        """Stop a job; False: there is none, or it was over."""
        entry = self._known.get(job_id)
        if entry is None or entry.job.status in FINAL:
            return False
        entry.stop.set()
        if self._queue.remove(entry):
            self._end(entry, status="cancelled")
        return True

    async def run(self) -> None:
        """Compile what is queued, until ``drain``."""
        while not self._stopping:
            meter.gauge("queue_length", len(self._queue), queue="compile")
            entry = self._queue.pop()
            if entry is None:
                self._more.clear()
                await self._more.wait()
                continue
            self._running = entry
            await self._one(entry)
            self._running = None

    async def drain(self, seconds: float) -> None:
        """No more jobs; the one that runs has so long to end, and is then cancelled."""
        self._stopping = True
        self._more.set()
        while (entry := self._queue.pop()) is not None:
            self._end(entry, status="cancelled")
        running = self._running
        if running is not None:
            try:
                await asyncio.wait_for(_over(running), seconds)
            except asyncio.TimeoutError:
                running.stop.set()

    async def _one(self, entry: _Entry) -> None:
        entry.began = time.monotonic()
        self._set(entry, status="running")
        try:
            done = await asyncio.to_thread(self._heard, entry, asyncio.get_running_loop())
        except Cancelled:
            self._end(entry, status="cancelled")
        except Exception as e:
            self._end(entry, status="failed", error=_fault(e))
        else:
            self._end(entry, status="done", artifact=done.id, cached=done.cached)

    def _heard(self, entry: _Entry, loop: asyncio.AbstractEventLoop) -> Compiled:
        """On the thread: compile, and tell how far it is."""
        stage, last = "", 0.0

        def hear(label: str, done: int, total: int) -> None:
            nonlocal stage, last
            _check(entry)
            now = time.monotonic()
            if label != stage or done == total or now - last > TELL_S:
                stage, last = label, now
                state = {"stage": label, "done": done, "total": total or 0}
                loop.call_soon_threadsafe(lambda: self._set(entry, **state))

        _check(entry)
        with progress.heard(hear):
            return self._compile(entry.request)

    def _set(self, entry: _Entry, **changes: Any) -> None:  # noqa: ANN401
        if entry.job.status not in FINAL:
            entry.job = replace(entry.job, **changes)
            entry.changed.set()
            entry.changed = asyncio.Event()

    def _end(self, entry: _Entry, **changes: Any) -> None:  # noqa: ANN401
        entry.over = time.monotonic()
        took = entry.over - entry.began if entry.began else 0.0
        self._set(entry, stage="", done=0, total=0, elapsed_s=took, **changes)
        meter.count("compile_jobs", outcome=entry.job.status)
        self._note(entry)

    def _note(self, entry: _Entry) -> None:
        if self._history is not None:
            self._history.note(entry.job)

    def _forget(self) -> None:
        """Jobs that are long over, or more than are to be remembered."""
        too_old = time.monotonic() - self._settings.job_history_s
        over = [e for e in self._known.values() if e.job.status in FINAL]
        for entry in over[: -self._settings.job_history]:
            del self._known[entry.job.id]
        for entry in over[-self._settings.job_history :]:
            if entry.over < too_old:
                del self._known[entry.job.id]


def _aged(entry: _Entry) -> Job:
    """The job, with the time that it has run by now."""
    if entry.job.status != "running":
        return entry.job
    return replace(entry.job, elapsed_s=time.monotonic() - entry.began)


async def _over(entry: _Entry) -> None:
    while entry.job.status not in FINAL:
        await entry.changed.wait()


def _check(entry: _Entry) -> None:
    if entry.stop.is_set():
        raise Cancelled
    limit = entry.request.timeout_s
    if time.monotonic() > entry.arrived + limit:
        raise asyncio.TimeoutError(f"the compile was not done after {limit:g} s.")


def _fault(error: Exception) -> dict[str, Any]:
    """Why a job failed."""
    status = 504 if isinstance(error, asyncio.TimeoutError) else 500
    if isinstance(error, PcompilerError):
        status = kind_of(error)[0]
    return {**told(error), "status": status}
