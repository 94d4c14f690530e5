"""What HTTP workers ask of the processes behind them, and what these answer.

    worker ──┬─ generator   the model with artifacts in place; follows the store
    worker ──┤
    worker ──┴─ compiler    the model that compiles; the store's one writer

Workers read artifacts from views of the store of their own, so a look-up never waits for either.
Messages cross between processes as JSON, never as pickles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pcompiler.ir import Message as Message  # of system, user or assistant

Status = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL: tuple[Status, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class ChatRequest:
    """A generation to run.

    Attributes:
        messages: the turns, the last one the user's; system turns only where there is no artifact,
            whose prompt takes their place.
        artifact: id or name of what stands before them; none: nothing does.
        max_tokens: of the answer, at most.
        temperature: 0: the most likely token each time.
        top_p: of nucleus sampling.
        seed: of sampling.
        stop: texts that end the answer and are not part of it.
        client: whose it is: slots are shared out fairly among clients.
        timeout_s: after which it fails, waiting included.
    """

    messages: Sequence[Message]
    artifact: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: Sequence[str] = ()
    client: str = ""
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Piece:
    """The next characters of an answer, never half of one; ``tokens``: so far."""

    text: str
    tokens: int


@dataclass(frozen=True)
class End:
    """How an answer ended.

    Attributes:
        reason: stop: the model or a stop text; length: ``max_tokens`` or the window.
        prompt_tokens: that stood before the answer: kept ones of the artifact, and the turns.
        saved_tokens: tokens of the artifact's prompt that were not read again.
        answer_tokens: of the answer.
        waited_s: for a slot.
        ttft_s: from arrival to the first token.
    """

    reason: Literal["stop", "length"]
    prompt_tokens: int
    saved_tokens: int
    answer_tokens: int
    waited_s: float
    ttft_s: float


@dataclass(frozen=True)
class CompileRequest:
    """A prompt to compile; see ``Compiler.compile`` and, for target auto, ``Compiler.search``."""

    source: str
    target: str = "kv"
    queries: Sequence[str] = ()
    fit_queries: Sequence[str] = ()
    min_agreement: float | None = None
    max_kl: float | None = None
    name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    client: str = ""
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Job:
    """A compile on its way.

    Attributes:
        id: of the job.
        status: where it stands; it does not change after one of ``FINAL``.
        stage: what it does, in words ("fitting answers"); empty before and after.
        done: of ``total`` in this stage.
        total: 0: not known.
        artifact: id, once done.
        cached: whether it was in the store already.
        error: why it failed: {"type", "message", "status"}, the last an HTTP status.
        created: ISO 8601, UTC.
        elapsed_s: since it began to run.
    """

    id: str
    status: Status
    stage: str = ""
    done: int = 0
    total: int = 0
    artifact: str | None = None
    cached: bool = False
    error: Mapping[str, Any] | None = None
    created: str = ""
    elapsed_s: float = 0.0


class Backend(Protocol):
    """The processes behind the workers.

    Every method raises ``Busy`` (queue full: 429), ``Gone`` (the process died or is starting: 503)
    with ``retry_after_s``, or the ``PcompilerError`` that the library raises. Cancelling the
    awaiting task frees the slot within one decoding step.
    """

    def chat(self, request: ChatRequest) -> AsyncIterator[Piece | End]:
        """Pieces, then one ``End``."""
        ...

    async def embed(self, texts: Sequence[str], client: str = "") -> list[list[float]]:
        """A unit vector for each text, by the embedded encoder."""
        ...

    async def submit(self, request: CompileRequest) -> Job:
        """Queue a compile."""
        ...

    async def job(self, job_id: str) -> Job | None:
        """Where it stands; none: there is none, or it is long over."""
        ...

    def watch(self, job_id: str) -> AsyncIterator[Job]:
        """Its states from now on, the last of them final."""
        ...

    async def cancel(self, job_id: str) -> bool:
        """Stop a job before its next stage; nothing is stored. False: it was over."""
        ...

    async def search(self, query: str, count: int) -> list[tuple[str, float]]:
        """Prompts of the store by meaning: (prompt hash, similarity), nearest first."""
        ...

    async def delete(self, artifact_id: str, everywhere: bool = False) -> None:
        """Remove an artifact; everywhere: from the store's remote as well."""
        ...

    async def fetch(self, name: str) -> bool:
        """Have an artifact in the store that only its remote has, by id or the beginning of one.

        False: neither has it.
        """
        ...

    async def ready(self) -> Mapping[str, bool]:
        """By process, whether it answers."""
        ...
