"""OpenAI's forms of requests: what we do is taken, what would change the answer is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Off = Annotated[list[Any], Field(max_length=0)] | None


class Form(BaseModel):
    """Of a request; fields that change nothing here, such as ``user``, are passed over."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class TextPart(Form):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Turn(Form):
    """A message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=1_000)]

    @property
    def text(self) -> str:
        """All of it."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(Form):
    """Of a streamed answer."""

    include_usage: bool = False


class ResponseFormat(Form):
    """Plain text only."""

    type: Literal["text"] = "text"


class ChatBody(Form):
    """A chat; ``model`` is NAME, NAME@ARTIFACT, or an artifact's id or name.

    The artifact stands in for the system prompt. Unlike OpenAI's, a temperature that is not given
    is 0: the most likely token each time.
    """

    model: Name
    messages: Annotated[list[Turn], Field(min_length=1, max_length=1_000)]
    max_tokens: Annotated[int, Field(ge=1, le=2**20)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**20)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=1_000)]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1_000)]], Field(max_length=4)
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # What is not done here, and would change the answer.
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    tools: Off = None
    functions: Off = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class EmbeddingsBody(Form):
    """Texts to embed, not tokens."""

    model: Name
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Literal[384] | None = None

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return [self.input] if isinstance(self.input, str) else self.input


class Shown(BaseModel):
    """Of a response; there may be more fields."""

    model_config = ConfigDict(extra="allow")


class Usage(Shown):
    """Tokens."""

    prompt_tokens: int
    total_tokens: int


class ChatMessage(Shown):
    """The answer."""

    role: Literal["assistant"]
    content: str


class Choice(Shown):
    """The one answer that there is."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length"]


class Completion(Shown):
    """A chat's answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Embedding(Shown):
    """A text's vector; as base64 of little-endian float32 if asked for."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(Shown):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelShown(Shown):
    """Something to be named as ``model``."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Shown):
    """What may be named as ``model``."""

    object: Literal["list"]
    data: list[ModelShown]
