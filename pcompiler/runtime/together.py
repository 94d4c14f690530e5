"""Computations side by side that share their costly steps.

Each runs in a thread of its own, one thread at a time, so that nothing in them has to be made for
threads. Where one calls a joint function it waits; once all wait, or have ended, the calls to one
joint function are answered by its ``together`` form, and all go on. Elsewhere a joint function is
what it always was. Who takes part, and in which order, depends on the computations alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from pcompiler import progress

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# Arguments of calls to one function → their results, in order; it leaves nothing half done where
# it raises, since the calls are then made one by one.
Together: TypeAlias = "Callable[[Sequence[tuple[Any, ...]]], Sequence[R]]"

_member: ContextVar[_Member[Any] | None] = ContextVar("member", default=None)


class _Ended(BaseException):
    """Raised in what still waits when a gathering is given up."""


@dataclass
class _Call:
    """A call to a joint function that waits for the others."""

    alone: Callable[..., Any]
    together: Together[Any]
    rank: int
    arguments: tuple[Any, ...]
    result: Any = None
    error: Exception | None = None


def joint(together: Together[R], rank: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function whose calls by several computations are answered at once.

    Args:
        together: the same for several calls; positional arguments only.
        rank: calls of the lowest are answered first, so that who is behind catches up before
            what costs more is done for all.
    """

    def decorate(alone: Callable[P, R]) -> Callable[P, R]:
        @wraps(alone)
        def call(*arguments: P.args, **named: P.kwargs) -> R:
            member = _member.get()
            if member is None or named:
                return alone(*arguments, **named)
            result: R = member.wait_for(_Call(alone, together, rank, arguments))
            return result

        return call

    return decorate


@contextmanager
def apart() -> Iterator[None]:
    """Inside, joint functions are called alone: for what is timed."""
    token = _member.set(None)
    try:
        yield
    finally:
        _member.reset(token)


def company() -> int:
    """How many computations were begun side by side with the caller; 1: it is alone."""
    member = _member.get()
    return member.company if member else 1


def run(computations: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Run all of them; one that raises is an error in its place and stops no other."""
    members = [_Member(computation, len(computations)) for computation in computations]
    try:
        for member in members:
            member.go_on()
        while waiting := [member for member in members if member.call]:
            _answer(waiting)
    finally:
        for member in members:
            member.end()
    return [member.outcome for member in members]


def _answer(waiting: Sequence[_Member[Any]]) -> None:
    """Answer the calls to the function of lowest rank, and let the callers go on."""
    calls = [member.call for member in waiting if member.call is not None]
    first = min(calls, key=lambda call: call.rank)
    some = [call for call in calls if call.alone is first.alone]
    try:
        results = first.together([call.arguments for call in some])
        for call, result in zip(some, results, strict=True):
            call.result = result
    except Exception:
        for call in some:
            _answer_alone(call)
    for member in waiting:
        if member.call is not None and member.call.alone is first.alone:
            member.go_on()


def _answer_alone(call: _Call) -> None:
    try:
        call.result = call.alone(*call.arguments)
    except Exception as e:
        call.error = e


class _Member(Generic[T]):
    """One computation and its thread, which runs only between ``go_on`` and its next call.

    Attributes:
        call: what it waits for; none: it has not begun, or has ended.
        company: how many there are of them.
        outcome: what it came to.
    """

    outcome: T | Exception

    def __init__(self, computation: Callable[[], T], company: int) -> None:
        self.company = company
        self.call: _Call | None = None
        self._computation, self._running, self._given_up = computation, False, False
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        context = copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def go_on(self) -> None:
        """Let it run up to its next call, or its end."""
        self._running = True
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._mine.release()
        self._wait()

    def end(self) -> None:
        """Give it up, if it has not ended."""
        self._given_up = True
        if self._running:  # the gathering was interrupted meanwhile
            self._wait()
        if self.call is not None:
            self.go_on()

    def _wait(self) -> None:
        self._theirs.acquire()
        self._running = False

    def wait_for(self, call: _Call) -> Any:  # noqa: ANN401
        """In its thread: wait until the call is answered."""
        self.call = call
        self._theirs.release()
        self._mine.acquire()
        self.call = None
        if self._given_up:
            raise _Ended
        if call.error is not None:
            raise call.error
        return call.result

    def _run(self) -> None:
        _member.set(self)
        try:
            with progress.hidden():
                self.outcome = self._computation()
        except Exception as e:
            self.outcome = e
        except _Ended:
            pass
        finally:
            self._theirs.release()
