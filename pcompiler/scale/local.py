"""Drafts on one machine: this process looks up, writes and makes; others make beside it.

A worker is handed a prompt when it has room, else this process makes it itself, so nobody waits
for anybody. One process writes: that is what RocksDB allows, and it costs a seventh of the making.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from pcompiler.draft import Drafter
from pcompiler.embed.base import Provider
from pcompiler.embed.static import Static
from pcompiler.errors import ConfigError, PcompilerError, StoreUnavailable
from pcompiler.ir import Message
from pcompiler.scale.base import Engine, Outcome
from pcompiler.store.db import Store
from pcompiler.store.drafts import Draft

ROOM_BYTES = 12_000  # on their way to a worker: pipes hold 16 KB everywhere, so no one blocks
ROOM = 4  # prompts on their way to a worker
MOST_PROCESSES = 256


@dataclass
class _Task:
    """A prompt on its way: its source, and who asked for it when."""

    source: str
    asked: list[tuple[int, float, bool]]


@dataclass
class _Worker:
    """A process that makes drafts, and what it has been handed."""

    process: BaseProcess
    out: Connection
    back: Connection
    tasks: dict[str, int] = field(default_factory=dict)  # id → bytes

    def has_room(self, size: int) -> bool:
        return len(self.tasks) < ROOM and sum(self.tasks.values()) + size <= ROOM_BYTES


class Local(Engine):
    """Drafts of prompts, with the static table's vectors.

    Args:
        store: open for writing.
        processes: that make drafts, this one included.
        provider: of the vectors in this process; workers load the static table, so it must be
            that one where there are any.

    Attributes:
        drafter: of this process; its clock tells where the time goes.

    Raises:
        ConfigError: a number of processes out of range.
    """

    def __init__(self, store: Store, processes: int = 1, provider: Provider | None = None) -> None:
        if not 1 <= processes <= MOST_PROCESSES:
            raise ConfigError(f"processes {processes}: it must be from 1 to {MOST_PROCESSES}.")
        self._store = store
        self.drafter = Drafter(provider or Static.load())
        self._cores = _cores()
        if processes > 1:
            _pin(self._cores[0])
        self._workers = [self._started(n) for n in range(1, processes)]
        self._flying: dict[str, _Task] = {}

    def run(self, sources: Iterable[str]) -> Iterator[Outcome]:
        """See ``Engine``; a prompt whose worker is killed fails, and the worker is replaced."""
        has, address, clock = self._store.drafts.has, self.drafter.address, time.perf_counter
        lookup = 0.0
        for number, source in enumerate(sources):
            began = clock()
            try:
                key = address(source)
            except UnicodeEncodeError as e:
                yield Outcome(number, "", False, clock() - began, f"not Unicode text: {e.reason}.")
                continue
            task = self._flying.get(key)
            if task is not None:
                task.asked.append((number, began, True))
            elif has(key):
                taken = clock() - began
                lookup += taken
                yield Outcome(number, key, True, taken)
            else:
                yield from self._new(key, _Task(source, [(number, began, False)]))
            if self._flying:
                yield from self._landed(0)
        self.drafter.clock.laps["found"] = lookup
        while self._flying:
            yield from self._landed(None)

    @property
    def pids(self) -> list[int]:
        """Of the workers."""
        return [worker.process.pid for worker in self._workers if worker.process.pid]

    def close(self) -> None:
        """End the workers; the store stays open."""
        for worker in self._workers:
            worker.out.close()  # which a worker takes for its end
            worker.process.join(timeout=10)
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join()
            worker.back.close()
        if self._workers:
            _unpin(self._cores)
        self._workers = []

    def _new(self, key: str, task: _Task) -> Iterator[Outcome]:
        size = len(task.source.encode())
        free = [worker for worker in self._workers if worker.has_room(size)]
        if not free:
            try:
                draft = self.drafter.make(task.source)
            except Exception as e:
                yield from _ended(key, task, _told(e))
            else:
                yield from self._keep(draft, task)
            return
        worker = min(free, key=lambda w: len(w.tasks))
        self._flying[key] = task
        worker.tasks[key] = size
        try:
            worker.out.send_bytes(task.source.encode())
        except OSError:  # it was killed; what it had is told of when it is found gone
            return

    def _landed(self, timeout_s: float | None) -> Iterator[Outcome]:
        """What workers have sent; waits for it as long as is said."""
        ready = wait([worker.back for worker in self._workers if worker.tasks], timeout_s)
        for place, worker in enumerate(self._workers):
            if worker.back not in ready:
                continue
            key = next(iter(worker.tasks))  # they come back in the order in which they went
            try:
                answer = worker.back.recv_bytes()
                vector = worker.back.recv_bytes()
            except (EOFError, OSError):
                yield from self._lost(place)
                continue
            del worker.tasks[key]
            yield from self._answered(key, json.loads(answer), vector)

    def _answered(
        self, key: str, answer: dict[str, list[dict[str, str]] | str | None], vector: bytes
    ) -> Iterator[Outcome]:
        task, error, told = self._flying.pop(key), answer.get("error"), answer.get("messages")
        if error is not None:
            yield from _ended(key, task, str(error))
            return
        assert not isinstance(told, str), "messages are a list"
        messages = None if told is None else tuple(Message(**message) for message in told)
        yield from self._keep(self.drafter.assemble(task.source, messages, vector), task)

    def _keep(self, draft: Draft, task: _Task) -> Iterator[Outcome]:
        with self.drafter.clock.lap("codec and store"):
            self._store.drafts.put(draft, task.source)
        yield from _ended(draft.id, task, None)

    def _lost(self, place: int) -> Iterator[Outcome]:
        """A worker was killed: its prompts fail, and another takes its place."""
        worker = self._workers[place]
        worker.process.join(timeout=10)
        worker.out.close()
        worker.back.close()
        why = f"the process that had it ended with exit code {worker.process.exitcode}."
        self._workers[place] = self._started(place + 1)
        for key in worker.tasks:
            yield from _ended(key, self._flying.pop(key), why)

    def _started(self, number: int) -> _Worker:
        context = get_context("spawn")
        given, out = context.Pipe(duplex=False)
        back, sent = context.Pipe(duplex=False)
        core = self._cores[number % len(self._cores)] if self._cores else None
        process = context.Process(target=work, args=(given, sent, core), daemon=True)
        process.start()
        given.close()
        sent.close()
        try:
            back.recv_bytes()  # it has loaded what it needs
        except EOFError:
            raise StoreUnavailable("a worker process ended before it had begun.") from None
        return _Worker(process, out, back)


def work(given: Connection, back: Connection, core: int | None) -> None:
    """In a process of its own: make drafts until the pipe is closed."""
    _pin(core)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    drafter = Drafter(Static.load())
    back.send_bytes(b"ready")
    while True:
        try:
            source = given.recv_bytes().decode()
        except (EOFError, OSError):
            return
        try:
            draft = drafter.make(source)
            told = draft.messages and [asdict(message) for message in draft.messages]
            answer, vector = json.dumps({"messages": told}), draft.vector
        except Exception as e:
            answer, vector = json.dumps({"error": _told(e)}), b"-"
        back.send_bytes(answer.encode())
        back.send_bytes(vector)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PcompilerError) else repr(error)


def _ended(key: str, task: _Task, error: str | None) -> Iterator[Outcome]:
    now = time.perf_counter()
    for number, began, known in task.asked:
        yield Outcome(number, key, known and error is None, now - began, error)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _pin(core: int | None) -> None:
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def _unpin(cores: list[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)
