"""One answer on its way: what it reads, and what it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from pcompiler import meter
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.runtime.batch import BatchRow, Feed
from pcompiler.runtime.decode import Picker, greedy, sampler
from pcompiler.runtime.pieces import Pieces
from pcompiler.runtime.prefix import Prefix
from pcompiler.serve.contract import ChatRequest, End, Piece
from pcompiler.serve.prefixes import Placed
from pcompiler.template import Template, chat_ids

Say = Callable[[Piece | End | Exception], None]


@dataclass(eq=False)
class Generation:
    """A request, from its arrival on.

    Attributes:
        request: what is asked for.
        say: takes what is answered; called in the scheduler's thread.
        arrived: when, on the monotonic clock.
        loading: what stands before it, once it has a slot.
        answer: once it is read and said.
        cancelled: whoever asked is gone.
    """

    request: ChatRequest
    say: Say
    arrived: float = field(default_factory=time.monotonic)
    loading: Future[Placed] | None = None
    answer: Answer | None = None
    cancelled: bool = False

    @property
    def deadline(self) -> float:
        """When it has failed, on the monotonic clock."""
        return self.arrived + self.request.timeout_s


class Answer:
    """The row of a generation in the batch.

    Args:
        model: the language model.
        generation: whose it is.
        placed: what stands before it.

    Attributes:
        tokens: that the row has in the end, at most.
        unread: tokens to be read still.

    Raises:
        InputError: it does not fit the model's window, or its turns are none.
    """

    def __init__(self, model: LanguageModel, generation: Generation, placed: Placed) -> None:
        request = generation.request
        self._model, self._generation, self._placed = model, generation, placed
        self._turns = _turns(model, request, placed)
        start = placed.prefix.length + len(placed.unread)
        room = model.window - start - len(self._turns)
        if room < 1:
            raise InputError(
                f"the chat has {len(self._turns)} tokens; after the artifact's {start} only "
                f"{model.window - start} fit the model's window. Shorten it."
            )
        self._limit = min(request.max_tokens, room)
        self.tokens = placed.prefix.kept + len(placed.unread) + len(self._turns) + self._limit
        self.unread = [*placed.unread, *self._turns]
        self._pick: Picker = greedy
        if request.temperature > 0:
            self._pick = sampler(request.temperature, request.top_p, request.seed)
        self._pieces = Pieces(model.tokenizer, request.stop)
        self._said = 0
        self._next: int | None = None
        self._waited_s = self._ttft_s = 0.0
        self._last = 0.0
        self._row: BatchRow | None = None

    def place(self) -> None:
        """Take room in memory."""
        self._waited_s = time.monotonic() - self._generation.arrived
        meter.observe("generation_wait_seconds", self._waited_s)
        room = self.tokens - self._placed.prefix.kept
        self._row = BatchRow(self._model, self._placed.prefix, room)

    def feed(self, most: int) -> Feed:
        """What it reads next: its last token, or so many of those that are unread."""
        assert self._row is not None, "place() comes first"
        if not self.unread:
            assert self._next is not None, "it was read, so it has said something"
            return Feed(self._row, [self._next])
        context = len(self.unread) - len(self._turns)
        count = min(most, context if context > 0 else len(self.unread))
        tokens, self.unread = self.unread[:count], self.unread[count:]
        return Feed(self._row, tokens, wanted=not self.unread)

    def context(self) -> Prefix | None:
        """Of a text artifact: its prefix, at the moment when it has just been read."""
        unread = self._placed.unread
        whole = self._row is not None and self._row.length == len(unread)
        return self._row.read() if unread and whole and self._row is not None else None

    @property
    def artifact_id(self) -> str:
        """Of what stands before it; empty: nothing."""
        return self._placed.header.id if self._placed.header else ""

    def take(self, logits: torch.Tensor) -> End | None:
        """Say one token more, (1, V) logits behind it; the end, if that was all."""
        token = int(self._pick(logits)[0])
        self._time()
        self._said += 1
        self._next = token
        over = token in self._model.stop_ids
        text = "" if over else self._pieces.push(token)
        over = over or self._pieces.stopped
        full = self._said >= self._limit
        if over or full:
            text += self._pieces.rest()
            over = over or self._pieces.stopped
        if text:
            self._generation.say(Piece(text, self._said))
        return self._end("stop" if over else "length") if over or full else None

    def _time(self) -> None:
        now = time.monotonic()
        if self._said == 0:
            self._ttft_s = now - self._generation.arrived
            meter.observe("generation_ttft_seconds", self._ttft_s)
        else:
            meter.observe("generation_gap_seconds", now - self._last)
        self._last = now

    def _end(self, reason: str) -> End:
        header, unread = self._placed.header, len(self._placed.unread)
        kept = header.kept_tokens if header else 0
        saved = max(0, header.context_tokens - unread) if header else 0
        prompt = kept + len(self._turns)
        for side, count in (("prompt", prompt), ("saved", saved), ("answer", self._said)):
            meter.count("generation_tokens", count, side=side)
        meter.count("generations", outcome=reason)
        assert reason in ("stop", "length")
        return End(reason, prompt, saved, self._said, self._waited_s, self._ttft_s)  # type: ignore[arg-type]


def _turns(model: LanguageModel, request: ChatRequest, placed: Placed) -> list[int]:
    """Tokens of the chat itself."""
    if not request.messages or not request.messages[-1].content.strip():
        raise InputError("the last turn of the chat is empty; ask something.")
    if placed.header is None:
        return chat_ids(model.tokenizer, request.messages)
    header = placed.header
    return Template(model.tokenizer, "", header.before, header.after).turns_ids(request.messages)
