"""Many answers from one model: who gets a slot, and what each step of the model reads.

One thread has the model. Every step takes one token of each answer that is being said, and beside
them a bounded number of tokens of what is still to be read, so that nobody's stream waits long.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from pcompiler import meter
from pcompiler.errors import Busy, Gone, PcompilerError
from pcompiler.model import LanguageModel
from pcompiler.runtime.batch import Feed, forward
from pcompiler.serve.contract import ChatRequest
from pcompiler.serve.fair import FairQueue
from pcompiler.serve.generation import Answer, Generation, Say
from pcompiler.serve.prefixes import Prefixes
from pcompiler.serving import ServeConfig

ALONE = 4  # chunks that are read in a step that nobody's stream waits for
TICK_S = 0.5  # between looks at the clock, while nothing else happens
log = logging.getLogger("pcompiler.serve")


class Scheduler:
    """Runs generations on a thread of its own; see ``start``.

    Args:
        model: the language model; nobody else may use it.
        prefixes: what may stand before a chat.
        settings: of the [serve] section.
    """

    def __init__(self, model: LanguageModel, prefixes: Prefixes, settings: ServeConfig) -> None:
        self._model, self._prefixes, self._settings = model, prefixes, settings
        self._queue: FairQueue[Generation] = FairQueue(settings.chat_queue, "chats")
        self._going: list[Generation] = []  # that have a slot, the oldest first
        self._changed = threading.Condition()
        self._stopping = False
        self._turned = time.monotonic()
        self._loader = ThreadPoolExecutor(1, "loader")
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Fail what is under way, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        self._loader.shutdown()

    def submit(self, request: ChatRequest, say: Say) -> Generation:
        """Queue a chat. Raises Busy: too many wait."""
        generation = Generation(request, say)
        with self._changed:
            if self._stopping:
                raise Gone("the server is stopping.", 5.0)
            try:
                self._queue.put(request.client, generation)
            except Busy:
                meter.count("generations", outcome="refused")
                raise
            self._changed.notify()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Whoever asked is gone; its slot is free before the next step."""
        with self._changed:
            generation.cancelled = True
            self._changed.notify()

    @property
    def still_s(self) -> float:
        """Since when it has made no step; an idle one makes some a second."""
        return time.monotonic() - self._turned

    def _run(self) -> None:
        while self._turn():
            self._turned = time.monotonic()

    def _turn(self) -> bool:
        """One step of the model, or a wait for something to do; False: all is over."""
        with self._changed:
            if self._stopping:
                for generation in [*self._queue, *self._going]:
                    self._fail(generation, Gone("the server is stopping.", 5.0), "failed")
                return False
            self._let_go()
            self._admit()
            meter.gauge("queue_length", len(self._queue), queue="generate")
            answers = [g for g in self._going if g.answer is not None]
            if not answers and not self._ready_to_place():
                self._changed.wait(TICK_S)
                return True
        self._place()
        self._step()
        return True

    def _let_go(self) -> None:
        """Of those that nobody waits for any more, or for which it is too late."""
        now = time.monotonic()
        for generation in [*self._queue, *self._going]:
            if generation.cancelled:
                self._over(generation)
                meter.count("generations", outcome="cancelled")
            elif now > generation.deadline:
                limit = generation.request.timeout_s
                late = asyncio.TimeoutError(f"the answer was not there after {limit:g} s.")
                self._fail(generation, late, "timeout")

    def _admit(self) -> None:
        """Give free slots to those who wait, and have what stands before them loaded."""
        while len(self._going) < self._settings.slots:
            generation = self._queue.pop()
            if generation is None:
                return
            self._going.append(generation)
            generation.loading = self._loader.submit(
                self._prefixes.load, generation.request.artifact
            )
            generation.loading.add_done_callback(lambda _: self._wake())

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _ready_to_place(self) -> list[Generation]:
        return [
            g
            for g in self._going
            if g.answer is None and g.loading is not None and g.loading.done()
        ]

    def _place(self) -> None:
        """Let those whose prefix is loaded into the batch, as far as there is room."""
        for generation in self._ready_to_place():
            assert generation.loading is not None
            try:
                answer = Answer(self._model, generation, generation.loading.result())
                used = sum(g.answer.tokens for g in self._going if g.answer is not None)
                if used and used + answer.tokens > self._settings.batch_tokens:
                    return
                answer.place()
                generation.answer = answer
            except Exception as e:
                self._fail(generation, e, "failed")

    def _step(self) -> None:
        """One forward pass, and what follows from it."""
        chosen = self._chosen()
        if not chosen:
            return
        meter.observe("generation_batch_size", len(chosen))
        try:
            logits = forward(self._model, [feed for _, feed in chosen])
        except Exception as e:
            for generation, _ in chosen:
                self._fail(generation, e, "failed")
            return
        wanting = iter(logits.unsqueeze(1))
        for generation, feed in chosen:
            self._take(generation, next(wanting) if feed.wanted else None)

    def _take(self, generation: Generation, logits: torch.Tensor | None) -> None:
        answer = generation.answer
        assert answer is not None
        if logits is None:
            if (prefix := answer.context()) is not None:
                self._loader.submit(self._prefixes.keep, answer.artifact_id, prefix)
            return
        try:
            end = answer.take(logits)
        except Exception as e:
            self._fail(generation, e, "failed")
            return
        if end is not None:
            self._over(generation)
            generation.say(end)

    def _chosen(self) -> list[tuple[Generation, Feed]]:
        """Who reads what in this step."""
        pairs = [(g, g.answer) for g in self._going if g.answer is not None]
        saying = [(g, a) for g, a in pairs if not a.unread]
        reading = [(g, a) for g, a in pairs if a.unread]
        chosen = [(g, a.feed(1)) for g, a in saying]
        room = self._settings.chunk_tokens * (1 if saying else ALONE)
        # The oldest has half, so that it ends; the rest goes to those who have least to read.
        for number, (g, a) in enumerate(reading[:1] + sorted(reading[1:], key=_unread)):
            if room < 1:
                break
            share = room if len(reading) == 1 or number else max(1, room // 2)
            feed = a.feed(share)
            room -= len(feed.tokens)
            chosen.append((g, feed))
        return chosen

    def _over(self, generation: Generation) -> None:
        """Free its slot or its place in the queue."""
        with self._changed:
            if not self._queue.remove(generation):
                self._going = [g for g in self._going if g is not generation]

    def _fail(self, generation: Generation, error: Exception, outcome: str) -> None:
        self._over(generation)
        meter.count("generations", outcome=outcome)
        if not isinstance(error, PcompilerError | asyncio.TimeoutError):
            log.error("an answer failed", exc_info=error)
        generation.say(error)


def _unread(pair: tuple[Generation, Answer]) -> int:
    return len(pair[1].unread)
