"""Chats that share a model: slots shared out, nobody kept waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from chats import WAIT_S, Asking, Make, Watched, chat, every_way
from reading import Reading

from pcompiler.compiler import Compiler
from pcompiler.errors import Busy, Gone, NotFoundError
from pcompiler.serve.contract import End, Piece


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiler]:
    with every_way(tmp_path_factory.mktemp("compiled")) as compiler:
        yield compiler


@pytest.fixture
def make(compiled: Compiler) -> Iterator[Make]:
    with Make(compiled) as made:
        yield made


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_others(
    make: Make, watched: Watched
) -> None:
    scheduler = make(chunk_tokens=16)
    stream = Asking(scheduler, chat(artifact="kv", max_tokens=200))
    assert isinstance(stream.items.get(timeout=WAIT_S), Piece)
    Asking(scheduler, chat("y" * 400, max_tokens=2)).result()
    scheduler.cancel(stream.generation)
    together = [step for step in watched.steps if len(step) == 2 and step[1] > 1]
    assert len(together) >= 400 // 16
    assert all(step[0] == 1 and step[1] <= 16 for step in together)


def test_a_short_chat_does_not_wait_for_a_long_prompt_to_be_read(
    make: Make, watched: Watched
) -> None:
    scheduler = make(chunk_tokens=16)
    long = Asking(scheduler, chat("y" * 1500, max_tokens=2))
    while not watched.steps:
        time.sleep(0.001)
    Asking(scheduler, chat("x", max_tokens=2)).result()
    assert long.items.empty()
    long.result()


def test_a_cancelled_chat_frees_its_slot_before_the_next_step(make: Make) -> None:
    scheduler = make(slots=1)
    first = Asking(scheduler, chat(artifact="kv", max_tokens=1500))
    assert isinstance(first.items.get(timeout=WAIT_S), Piece)
    second = Asking(scheduler, chat(artifact="hybrid", max_tokens=3))
    scheduler.cancel(first.generation)
    before = first.items.qsize()
    assert second.result()[1].answer_tokens <= 3
    assert first.items.qsize() <= before + 1


def test_a_deadline_holds_for_who_waits_and_for_who_answers(make: Make) -> None:
    scheduler = make(slots=1)
    going = Asking(scheduler, chat(artifact="kv", max_tokens=1900, timeout_s=1.0))
    waiting = Asking(scheduler, chat(artifact="kv", timeout_s=0.2))
    for one in (waiting, going):
        with pytest.raises(asyncio.TimeoutError, match="was not there after"):
            one.result()
    assert Asking(scheduler, chat(artifact="kv", max_tokens=2)).result()


def test_clients_have_slots_in_turn(make: Make) -> None:
    scheduler = make(start=False, slots=1, chat_queue=200)
    order: list[str] = []

    def ask(client: str, number: int) -> None:
        def say(item: Any) -> None:
            if isinstance(item, End):
                order.append(f"{client}{number}")

        scheduler.submit(chat(artifact="kv", client=client, max_tokens=2), say)

    for number in range(30):
        ask("a", number)
    ask("b", 0)
    ask("c", 0)
    scheduler.start()
    while len(order) < 32:
        time.sleep(0.01)
    assert order[:5] == ["a0", "b0", "c0", "a1", "a2"]


def test_a_full_queue_is_said_at_once(make: Make) -> None:
    scheduler = make(start=False, chat_queue=2)
    Asking(scheduler, chat())
    Asking(scheduler, chat())
    with pytest.raises(Busy, match="2 chats are waiting"):
        Asking(scheduler, chat())


def test_the_batch_has_no_more_tokens_than_are_allowed(make: Make, watched: Watched) -> None:
    scheduler = make(slots=4, batch_tokens=200)
    chats = [Asking(scheduler, chat(max_tokens=60)) for _ in range(4)]
    alone = Asking(scheduler, chat("x" * 400, max_tokens=4))  # more than is allowed: by itself
    for one in [*chats, alone]:
        one.result()
    assert max(map(len, watched.steps)) == 2


def test_a_step_that_fails_ends_its_chats_and_no_others(make: Make, watched: Watched) -> None:
    scheduler = make()
    failures = [RuntimeError("no memory")]

    def fail() -> None:
        if failures:
            raise failures.pop()

    watched.before = fail
    with pytest.raises(RuntimeError, match="no memory"):
        Asking(scheduler, chat(artifact="kv")).result()
    assert Asking(scheduler, chat(artifact="kv", max_tokens=3)).result()[1].answer_tokens <= 3


def test_closing_tells_everyone(make: Make) -> None:
    scheduler = make(slots=1)
    chats = [Asking(scheduler, chat(artifact="kv", max_tokens=1900)) for _ in range(3)]
    assert isinstance(chats[0].items.get(timeout=WAIT_S), Piece)
    scheduler.close()
    for one in chats:
        with pytest.raises(Gone):
            one.result()
    with pytest.raises(Gone):
        Asking(scheduler, chat())


def test_what_happens_is_told_as_metrics(metered: Reading, make: Make) -> None:
    """pcompiler_generations_total, pcompiler_generation_tokens_total and what belongs to them:
    pcompiler_generation_ttft_seconds, pcompiler_generation_gap_seconds,
    pcompiler_generation_wait_seconds, pcompiler_generation_batch_size, pcompiler_queue_length.
    """
    with metered.watching():
        waiting = make(start=False, chat_queue=1)
        Asking(waiting, chat(artifact="kv"))
        with pytest.raises(Busy):
            Asking(waiting, chat(artifact="kv"))
        scheduler = make(slots=2)
        ends = [Asking(scheduler, chat(artifact="kv", max_tokens=5)).result()[1] for _ in range(3)]
        late = Asking(scheduler, chat(artifact="kv", max_tokens=1900, timeout_s=0.3))
        left = Asking(scheduler, chat(artifact="kv", max_tokens=1900))
        third = Asking(scheduler, chat(artifact="nothing"))
        assert isinstance(left.items.get(timeout=WAIT_S), Piece)
        with pytest.raises(asyncio.TimeoutError):
            late.result()
        scheduler.cancel(left.generation)
        with pytest.raises(NotFoundError):
            third.result()
    change = metered.change
    outcomes = {"length": 3, "timeout": 1, "cancelled": 1, "failed": 1, "refused": 1, "stop": 0}
    for outcome, count in outcomes.items():
        assert change("generations", outcome=outcome) == count, outcome
    assert change("generation_tokens", side="answer") == 15
    assert change("generation_tokens", side="prompt") == sum(e.prompt_tokens for e in ends)
    assert change("generation_tokens", side="saved") == sum(e.saved_tokens for e in ends)
    assert change("generation_ttft_seconds", "_count") == 5
    assert change("generation_wait_seconds", "_count") == 5
    said = change("generation_gap_seconds", "_count") + 5
    steps, together = (change("generation_batch_size", part) for part in ("_count", "_sum"))
    assert said == together  # every chat was read in one step, and each step said a token
    assert 12 < steps < together


def test_the_length_of_the_queue_is_told(metered: Reading, make: Make) -> None:
    with metered.watching():
        scheduler = make(slots=1)
        first = Asking(scheduler, chat(artifact="kv", max_tokens=1900))
        assert isinstance(first.items.get(timeout=WAIT_S), Piece)
        others = [Asking(scheduler, chat(artifact="kv", max_tokens=1)) for _ in range(3)]
        for _ in range(10):
            first.items.get(timeout=WAIT_S)
    assert metered.value("queue_length", queue="generate") == 3
    scheduler.cancel(first.generation)
    for one in others:
        one.result()


def test_a_step_that_does_not_end_shows_as_standing_still(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, go_on = Watched(monkeypatch), threading.Event()
    watched.before = lambda: None if go_on.wait(30) else pytest.fail("it was never let go")
    scheduler = make()
    time.sleep(1.2)
    assert scheduler.still_s < 1.1  # idle, it looks at the clock
    asking = Asking(scheduler, chat("When", "kv", max_tokens=2))
    time.sleep(1.5)
    assert scheduler.still_s > 0.5
    still = scheduler.still_s
    time.sleep(0.3)
    assert scheduler.still_s > still
    go_on.set()
    asking.result()
    time.sleep(0.2)
    assert scheduler.still_s < 1.1
