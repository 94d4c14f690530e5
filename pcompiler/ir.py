"""The shared nouns: what a prompt is made of, and how faithful an artifact is.

Standard library only, so that anything may import it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


class Kind(str, Enum):
    """What a segment is; passes and policies go by it."""

    INSTRUCTION = "instruction"
    EXAMPLE = "example"
    DOCUMENT = "document"
    CODE = "code"
    TABLE = "table"
    JSON = "json"
    LIST = "list"
    MARKUP = "markup"  # fence markers and chat JSON syntax: in the source, unseen by the model


class Policy(str, Enum):
    """What the author allows for a segment."""

    KEEP = "keep"
    COMPRESS = "compress"
    DROP_FIRST = "drop-first"


@dataclass(frozen=True)
class Message:
    """One chat turn as the chat template takes it."""

    role: str
    content: str


@dataclass(frozen=True)
class Segment:
    """A slice of the source, and the text that the model sees for it.

    Attributes:
        kind: what it is.
        source: the slice of the input, verbatim; passes never change it.
        start: offset of the slice in the input, in characters.
        text: what the model sees; differs from ``source`` for markup (empty), for chat JSON
            (escapes decoded), and once a pass has rewritten it.
        policy: what the author allows.
        message: index of the message it belongs to.
    """

    kind: Kind
    source: str
    start: int
    text: str
    policy: Policy = Policy.COMPRESS
    message: int = 0

    @property
    def end(self) -> int:
        """Offset just past the slice, in characters."""
        return self.start + len(self.source)


@dataclass(frozen=True)
class Prompt:
    """What is compiled. ``"".join(s.source for s in segments) == source`` always holds."""

    source: str
    segments: tuple[Segment, ...]
    roles: tuple[str, ...] = ("system",)

    def __post_init__(self) -> None:
        position = 0
        for segment in self.segments:
            assert segment.start == position, "segments must tile the source"
            position = segment.end
        assert position == len(self.source), "segments must tile the source"

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat turns that the model sees."""
        contents: list[list[str]] = [[] for _ in self.roles]
        for segment in self.segments:
            contents[segment.message].append(segment.text)
        return tuple(
            Message(role, "".join(parts)) for role, parts in zip(self.roles, contents, strict=True)
        )

    def with_texts(self, texts: Iterable[str]) -> Prompt:
        """The same prompt with other model-visible texts, one for each segment."""
        pairs = zip(self.segments, texts, strict=True)
        return replace(
            self, segments=tuple(s if s.text == t else replace(s, text=t) for s, t in pairs)
        )


@dataclass(frozen=True)
class Probe:
    """A query used for fitting or for measuring; its answer is the teacher's."""

    query: str


@dataclass(frozen=True)
class Fidelity:
    """How faithful an artifact is, on held-out probes.

    Attributes:
        kl: KL(teacher ‖ student), nats per answer token.
        agreement: share of answer tokens with the same argmax, 0..1.
        kl_no_prompt: the same KL for the model without the prompt: the bound to beat.
        agreement_no_prompt: the same agreement for the model without the prompt.
        answer_tokens: tokens that the means are over.
        probes: queries that the answers belong to.
        kl_uncovered: KL on those queries about a passage that no fitting probe asked about.
        agreement_uncovered: agreement on them.
        probes_uncovered: how many they are; 0 also where nothing was fitted.
    """

    kl: float
    agreement: float
    kl_no_prompt: float
    agreement_no_prompt: float
    answer_tokens: int
    probes: int
    kl_uncovered: float | None = None
    agreement_uncovered: float | None = None
    probes_uncovered: int = 0

    @property
    def recovered(self) -> float:
        """Share of the prompt's effect that the artifact keeps: 1 − KL / KL(no prompt)."""
        return 1.0 - self.kl / self.kl_no_prompt if self.kl_no_prompt > 0 else 1.0
