"""Computations side by side: who meets whom, what is answered first, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from pcompiler.runtime import together
from pcompiler.runtime.together import joint

Calls = list[tuple[str, list[int]]]


class Steps:
    """Two joint functions that note who was answered with whom."""

    def __init__(self) -> None:
        self.seen: Calls = []
        self.quick = joint(self._noting("quick"), rank=0)(self.one)
        self.dear = joint(self._noting("dear"), rank=1)(self.other)

    def one(self, number: int) -> int:
        return number + 1

    def other(self, number: int) -> int:
        return number * 10

    def _noting(self, name: str) -> Callable[[Sequence[tuple[int]]], list[int]]:
        alone = {"quick": self.one, "dear": self.other}[name]

        def answer(calls: Sequence[tuple[int]]) -> list[int]:
            self.seen.append((name, [number for (number,) in calls]))
            return [alone(number) for (number,) in calls]

        return answer


def test_who_is_behind_catches_up_before_the_dear_step() -> None:
    steps = Steps()

    def walk(number: int, rounds: int) -> int:
        for _ in range(rounds):
            number = steps.quick(number)
        return steps.dear(number)

    assert together.run([lambda: walk(0, 1), lambda: walk(5, 3)]) == [10, 80]
    assert steps.seen == [
        *[("quick", [0, 5]), ("quick", [6]), ("quick", [7])],
        ("dear", [1, 8]),
    ]


def test_alone_and_apart_a_joint_function_is_what_it_was() -> None:
    steps = Steps()
    assert steps.quick(1) == 2

    def timed() -> tuple[int, int]:
        with together.apart():
            return steps.quick(3), together.company()

    assert together.run([timed, timed]) == [(4, 1), (4, 1)]
    assert steps.seen == []
    assert together.company() == 1
    assert together.run([together.company] * 3) == [3, 3, 3]


def test_an_error_is_its_own_and_one_of_all_is_tried_again_alone() -> None:
    def refusing(numbers: Sequence[tuple[int]]) -> list[float]:
        raise MemoryError(f"{len(numbers)} at once.")

    @joint(refusing, rank=0)
    def inverse(number: int) -> float:
        return 1 / number

    found = together.run([lambda: inverse(2), lambda: inverse(0), lambda: 1 / 0, lambda: 7.0])
    assert (found[0], found[3]) == (0.5, 7.0)
    assert isinstance(found[1], ZeroDivisionError)
    assert isinstance(found[2], ZeroDivisionError)


def test_interrupted_all_end_and_no_thread_is_left() -> None:
    ended: list[int] = []

    def interrupted(_: object) -> list[int]:
        raise KeyboardInterrupt

    @joint(interrupted, rank=0)
    def step(number: int) -> int:
        return number

    def computation(number: int) -> int:
        try:
            return step(number)
        finally:
            ended.append(number)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        together.run([lambda: computation(1), lambda: computation(2)])
    assert ended == [1, 2]
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(timeout=1)
    assert threading.active_count() <= before


def test_one_runs_at_a_time() -> None:
    steps, running = Steps(), 0

    def computation() -> int:
        nonlocal running
        most = 0
        for number in range(50):
            running += 1
            most = max(most, running)
            running -= 1
            steps.quick(number)
        return most

    assert together.run([computation] * 4) == [1] * 4
    assert all(len(calls) == 4 for _, calls in steps.seen)
