"""Prompts on one machine: processes beside this one make, each on cores of its own."""

from __future__ import annotations

import json
import os
import selectors
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from pcompiler.scale.base import Entry
from pcompiler.scale.crew import Arrival, Crew, check_processes
from pcompiler.scale.keeper import Answer, Keeper, Recipe, Station

END_S = 10.0  # for a process to end by itself, or to be found to have ended


@dataclass
class _Process:
    """A process that makes, and the pipes to and from it."""

    process: BaseProcess
    out: Connection
    back: Connection

    def close(self, now: bool) -> None:
        """End it: by itself, which it takes the end of its pipe for, or now."""
        self.out.close()
        if now:
            self.process.terminate()
        self.process.join(END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.back.close()


class Local(Crew):
    """An engine of processes on this machine.

    Args:
        keeper: of the store.
        processes: that make, this one included where the keeper makes as well.

    Raises:
        ConfigError: a number of processes out of range.
        UserError: what they cannot load, as it would be raised here.
    """

    def __init__(self, keeper: Keeper, processes: int = 1) -> None:
        check_processes(processes)
        super().__init__(keeper, processes - keeper.makes)
        self._cores = _cores()
        self._parties = processes
        self._processes: list[_Process | None] = [None] * len(self._workers)
        self._ready = selectors.DefaultSelector()  # asked at each prompt: a new one takes 3 µs
        self._pinned = keeper.makes and processes > 1
        if self._pinned:
            _pin(self._share(0))
        self._begin()

    def close(self) -> None:
        """End the processes; what they are at is lost, the store stays open."""
        for place, process in enumerate(self._processes):
            if process is not None:
                worker = self._workers[place]
                self._ready.unregister(process.back)
                process.close(now=bool(worker.tasks) or not worker.pid)
                self._processes[place] = None
        self._ready.close()
        if self._pinned:
            _pin(self._cores)

    def _share(self, party: int) -> list[int]:
        """Cores for one of those that make."""
        share = self._cores[party :: self._parties]
        return share or self._cores[party % len(self._cores) :][:1] if self._cores else []

    def _start(self, place: int) -> None:
        before = self._processes[place]
        if before is not None:
            self._ready.unregister(before.back)
            before.close(now=True)
        context = get_context("spawn")
        given, out = context.Pipe(duplex=False)
        back, sent = context.Pipe(duplex=False)
        cores = self._share(place + self._keeper.makes)
        process = context.Process(
            target=work, args=(self._keeper.recipe, given, sent, cores), daemon=True
        )
        process.start()
        given.close()
        sent.close()
        self._processes[place] = _Process(process, out, back)
        self._ready.register(back, selectors.EVENT_READ, place)

    def _send(self, place: int, key: str, entry: Entry) -> None:  # noqa: ARG002 - in order
        process = self._processes[place]
        assert process is not None, "only a worker that has loaded is handed a prompt"
        try:
            process.out.send_bytes(entry.source.encode())
            process.out.send_bytes(json.dumps(entry.queries).encode())
        except OSError:  # it was killed; what it had is told of when it is found gone
            return

    def _arrivals(self, timeout_s: float | None) -> Iterator[Arrival]:
        for key, _ in self._ready.select(timeout_s):
            yield self._received(key.data, key.fileobj)  # type: ignore[arg-type]  # as registered

    def _received(self, place: int, pipe: Connection) -> Arrival:
        key = next(iter(self._workers[place].tasks), "")  # they come back as they went
        try:
            error, kind, count = json.loads(pipe.recv_bytes())
            parts = tuple(pipe.recv_bytes() for _ in range(count))
        except (EOFError, OSError):
            process = self._processes[place]
            assert process is not None, "it was there to be waited for"
            process.process.join(END_S)
            return Arrival(place, key, None, f"exit code {process.process.exitcode}")
        return Arrival(place, key, Answer(parts, error, kind))


def work(recipe: Recipe, given: Connection, back: Connection, cores: list[int]) -> None:
    """In a process of its own: load, then make until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever has started it
    _pin(cores)
    station = Station(recipe)
    try:
        _reply(back, station.load())
        while True:
            source = given.recv_bytes().decode()
            _reply(back, station.make(source, json.loads(given.recv_bytes())))
    except (EOFError, OSError):
        return


def _reply(back: Connection, answer: Answer) -> None:
    back.send_bytes(json.dumps([answer.error, answer.kind, len(answer.parts)]).encode())
    for part in answer.parts:
        back.send_bytes(part)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _pin(cores: list[int]) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
