"""What engines have in common: this process looks up, hands out and writes; others make.

One process writes: that is what RocksDB allows. A worker is handed a prompt when it has room. Of
what a worker held that ended, it was most likely at the first; but its last answers may be lost
with it, so all of them are tried again one at a time, each alone with a worker: whoever ends two
processes is then known for certain, and nobody is given up for being next to it.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pcompiler.errors import (
    ConfigError,
    DamageError,
    GateMissed,
    MismatchError,
    StoreUnavailable,
    UserError,
)
from pcompiler.progress import waiting
from pcompiler.scale.base import AHEAD, Engine, Entry, Outcome
from pcompiler.scale.keeper import Answer, Keeper, failure, told

ROOM_BYTES = 12_000  # on their way to a worker: pipes hold 16 KB everywhere, so no one blocks
TRIES = 2  # of a prompt whose process ends
MOST_PROCESSES = 256


@dataclass
class Task:
    """A prompt on its way.

    Attributes:
        entry: the prompt.
        asked: for each who asked for it its number, when, and whether another had before.
        ended: how many processes ended at it.
        alone: a process ended that held it: nothing else is to be with it now.
    """

    entry: Entry
    asked: list[tuple[int, float, bool]]
    ended: int = 0
    alone: bool = False


@dataclass
class Worker:
    """A process that makes, and what it has been handed: id → bytes, in that order."""

    tasks: dict[str, int] = field(default_factory=dict)
    pid: int = 0  # 0: it is loading
    taken: bool = False  # by a prompt that is to be alone

    def has_room(self, size: int, room: int) -> bool:
        """Whether it takes a prompt without this process ever waiting for it."""
        if self.taken and self.tasks:
            return False
        few = len(self.tasks) < room and sum(self.tasks.values()) + size <= ROOM_BYTES
        return self.pid > 0 and (few or not self.tasks)


class Arrival(NamedTuple):
    """What came from a worker: an answer to a prompt, or to nothing, once it has loaded.

    No answer: the worker has ended, for this reason; what it had answered came before.
    """

    place: int
    key: str
    answer: Answer | None
    why: str = ""


class Crew(Engine):
    """An engine with workers; where they are is what engines differ in.

    Args:
        keeper: of the store.
        workers: how many.

    Raises:
        ConfigError: a number of workers out of range.
    """

    def __init__(self, keeper: Keeper, workers: int) -> None:
        check_processes(workers + keeper.makes)
        self._keeper = keeper
        self._workers = [Worker() for _ in range(workers)]
        self._flying: dict[str, Task] = {}  # oldest first
        self._again: deque[str] = deque()

    @abstractmethod
    def _start(self, place: int) -> None:
        """Start a worker, in place of one that ended if there was; do not wait for it."""

    @abstractmethod
    def _send(self, place: int, key: str, entry: Entry) -> None:
        """Hand it a prompt; one that has ended is found so when it is waited for."""

    @abstractmethod
    def _arrivals(self, timeout_s: float | None) -> Iterator[Arrival]:
        """What workers that load or are busy have sent; waits for it as long as is said."""

    @property
    def pids(self) -> list[int]:
        """Of the workers that have loaded."""
        return [worker.pid for worker in self._workers if worker.pid]

    def run(self, entries: Iterable[Entry]) -> Iterator[Outcome]:
        """See ``Engine``."""
        keeper, clock, flying = self._keeper, time.perf_counter, self._flying
        has, address = keeper.has, keeper.address
        for number, entry in enumerate(entries):
            if entry.error is not None:
                yield Outcome(number, "", False, 0.0, entry.error)
                continue
            began = clock()
            try:
                key = address(entry)
                task = flying.get(key)
                found = task is None and has(key)
            except (UnicodeEncodeError, GateMissed) as e:
                yield Outcome(number, "", False, clock() - began, _refused(e))
                continue
            if task is not None:
                task.asked.append((number, began, True))
            elif found:
                taken = clock() - began
                keeper.found_s += taken
                yield Outcome(number, key, True, taken)
            else:
                yield from self._new(key, Task(entry, [(number, began, False)]))
            if flying:
                yield from self._landed(0)
                while self._is_far_ahead(number):
                    yield from self._landed(None)
        while flying:
            yield from self._landed(None)

    def _begin(self) -> None:
        """Have all workers loaded, so that what they cannot load is told before work starts."""
        try:
            for place in range(len(self._workers)):
                self._start(place)
            with waiting(f"{len(self._workers)} processes load what they need"):
                while not all(worker.pid for worker in self._workers):
                    list(self._landed(None))
        except BaseException:
            self.close()
            raise

    def _is_far_ahead(self, number: int) -> bool:
        oldest = next(iter(self._flying.values()), None)
        return oldest is not None and number - oldest.asked[0][0] >= AHEAD

    def _new(self, key: str, task: Task) -> Iterator[Outcome]:
        place = self._free(task.entry)
        while place is None and not self._keeper.makes:
            yield from self._landed(None)
            place = self._free(task.entry)
        if place is None:
            yield from _ended(key, task, self._made_here(task.entry))
            return
        self._flying[key] = task
        self._hand(place, key)

    def _made_here(self, entry: Entry) -> str | None:
        """Why it failed, if it did."""
        try:
            self._keeper.make(entry)
        except StoreUnavailable:
            raise
        except Exception as e:
            return told(e)
        return None

    def _free(self, entry: Entry) -> int | None:
        """The worker with room that has least to do."""
        size, room = _bytes(entry), self._keeper.room
        free = [p for p, worker in enumerate(self._workers) if worker.has_room(size, room)]
        return min(free, key=lambda p: len(self._workers[p].tasks), default=None)

    def _hand(self, place: int, key: str) -> None:
        task, worker = self._flying[key], self._workers[place]
        worker.tasks[key], worker.taken = _bytes(task.entry), task.alone
        self._send(place, key, task.entry)

    def _landed(self, timeout_s: float | None) -> Iterator[Outcome]:
        for arrival in self._arrivals(timeout_s):
            worker = self._workers[arrival.place]
            if arrival.answer is None:
                yield from self._lost(arrival)
            elif not worker.pid:
                self._joined(worker, arrival.answer)
            else:
                del worker.tasks[arrival.key]
                yield from self._answered(arrival.key, arrival.answer)
        idle = (p for p, worker in enumerate(self._workers) if worker.pid and not worker.tasks)
        while self._again and (place := next(idle, None)) is not None:
            self._hand(place, self._again.popleft())

    def _joined(self, worker: Worker, answer: Answer) -> None:
        if answer.error is not None:
            raise failure(answer)
        about, pid = answer.parts
        self._keeper.learn(about)
        worker.pid = int(pid)

    def _answered(self, key: str, answer: Answer) -> Iterator[Outcome]:
        task, error = self._flying.pop(key), answer.error
        if error is None:
            try:
                self._keeper.keep(key, task.entry, answer.parts)
            except (MismatchError, DamageError) as e:
                error = str(e)
        yield from _ended(key, task, error)

    def _lost(self, arrival: Arrival) -> Iterator[Outcome]:
        """A worker ended: another takes its place, and what it held."""
        worker = self._workers[arrival.place]
        if not worker.pid:
            raise UserError(f"a process that makes ended before it had begun: {arrival.why}.")
        self._workers[arrival.place] = Worker()
        self._start(arrival.place)
        keys = deque(worker.tasks)
        for key in keys:
            self._flying[key].alone = True
        if keys:
            task = self._flying[keys[0]]
            # Of several the first may be next to it only: that counts once, so twice is certain.
            task.ended = max(task.ended, 1) if len(keys) > 1 else task.ended + 1
            if task.ended == TRIES:
                key, why = keys.popleft(), f"{TRIES} processes ended while at it: {arrival.why}."
                yield from _ended(key, self._flying.pop(key), why)
        self._again.extend(keys)


def check_processes(processes: int) -> None:
    """Refuse a number out of range. Raises ConfigError."""
    if not 1 <= processes <= MOST_PROCESSES:
        raise ConfigError(f"processes {processes}: it must be from 1 to {MOST_PROCESSES}.")


def _bytes(entry: Entry) -> int:
    """Of it on its way, at most."""
    return len(entry.source.encode()) + 6 * sum(map(len, entry.queries))


def _refused(error: UnicodeEncodeError | GateMissed) -> str:
    return str(error) if isinstance(error, GateMissed) else f"not Unicode text: {error.reason}."


def _ended(key: str, task: Task, error: str | None) -> Iterator[Outcome]:
    now = time.perf_counter()
    for number, began, known in task.asked:
        yield Outcome(number, key, known and error is None, now - began, error)
