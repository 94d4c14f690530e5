"""What goes in and out, apart from OpenAI's forms; the OpenAPI description is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pcompiler.targets import TARGETS

Text = Annotated[str, StringConstraints(min_length=1)]
Target = Literal["kv", "weights", "hybrid", "text", "auto"]
assert set(Target.__args__) == {*TARGETS, "auto"}, "the targets that there are"  # type: ignore[attr-defined]
ARTIFACT = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,128}$"  # an id, the beginning of one, or a name
JOB = r"^[A-Za-z0-9_-]{1,64}$"


class Asked(BaseModel):
    """A request: no unknown fields, no coercion."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Fault(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """Every error has this form, which is OpenAI's."""

    error: Fault


class TargetSettings(Asked):
    """See the section [targets] of the configuration; what is left out keeps its value there."""

    factor: Annotated[float, Field(ge=1, le=10_000)] | None = None
    budget: Literal["global", "head"] | None = None
    bits: Literal[8, 16] | None = None
    rank: Annotated[int, Field(ge=1, le=65_536)] | None = None
    budget_bytes: Annotated[int, Field(ge=1, le=2**40)] | None = None
    strength: Annotated[float, Field(ge=0, le=1)] | None = None
    refine: Annotated[int, Field(ge=0, le=1_000)] | None = None
    rate: Annotated[float, Field(gt=0, le=1)] | None = None
    target_tokens: Annotated[int, Field(ge=1, le=2**40)] | None = None
    ranking: Literal["probes", "surprise", "lexical"] | None = None
    protect: Annotated[str, Field(max_length=1_000)] | None = None
    force: Annotated[str, Field(max_length=10_000)] | None = None
    section: Annotated[str, Field(max_length=10_000)] | None = None
    duplicates: Literal["auto", "exact", "near", "meaning"] | None = None


class CompileBody(Asked):
    """A prompt to compile.

    ``source`` is text, Markdown or chat messages as JSON; ``queries`` are what fidelity is
    measured on, ``fit_queries`` what the artifact is fitted on; the gates refuse what is less
    faithful. With ``wait`` the response comes when the job is over.
    """

    source: Text
    target: Target = "kv"
    queries: Annotated[list[Text], Field(max_length=1_000)] = []
    fit_queries: Annotated[list[Text], Field(max_length=1_000)] = []
    min_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    max_kl: Annotated[float, Field(ge=0)] | None = None
    name: Annotated[str, Field(max_length=129)] | None = None
    settings: TargetSettings = TargetSettings()
    wait: bool = True


class JobFault(BaseModel):
    """Why a job failed; ``status`` is what HTTP calls it."""

    type: str
    message: str
    status: int


class JobShown(BaseModel):
    """A compile on its way, or over."""

    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str
    done: int
    total: int
    artifact: str | None
    cached: bool
    error: JobFault | None
    created: str
    elapsed_s: float


class FidelityShown(BaseModel):
    """KL in nats per answer token, agreement as a share, of the artifact and of no prompt."""

    model_config = ConfigDict(extra="allow")

    kl: float
    agreement: float
    kl_no_prompt: float
    agreement_no_prompt: float


class ArtifactShown(BaseModel):
    """What is known of an artifact without its tensors."""

    model_config = ConfigDict(extra="allow")

    id: str
    target: str
    model_name: str
    model: dict[str, Any]
    prompt_hash: str
    context_tokens: int
    kept_tokens: int
    fidelity: FidelityShown
    created: str
    timing: dict[str, float]
    size_bytes: int
    parent: str | None


class ArtifactPage(BaseModel):
    """Artifacts in order of id. There may be fewer than asked for before the last page."""

    data: list[ArtifactShown]
    next_cursor: str | None


class NameShown(BaseModel):
    """What a name points at, and since when."""

    name: str
    artifact: str | None
    pinned: bool
    moved: str | None


class NameList(BaseModel):
    """All names, in order."""

    data: list[NameShown]


class SegmentsBody(Asked):
    """A prompt to take apart."""

    source: Annotated[str, StringConstraints(min_length=1, max_length=262_144)]


class SegmentShown(BaseModel):
    """A stretch of the source, verbatim, with the tokens that the model sees for it."""

    kind: Literal["instruction", "example", "document", "code", "table", "json", "list", "markup"]
    policy: Literal["keep", "compress", "drop-first"]
    source: str
    message: int
    tokens: int


class TurnShown(BaseModel):
    """A chat turn that the model sees."""

    role: str
    content: str


class SegmentList(BaseModel):
    """What a prompt is made of; ``left_out``: segments after those that are listed."""

    prompt_hash: str
    tokens: int
    messages: list[TurnShown]
    segments: list[SegmentShown]
    left_out: int


class ChangeShown(BaseModel):
    """A stretch of text: kept, dropped, or put in its place."""

    sign: Literal[" ", "-", "+"]
    text: str


class ChangeList(BaseModel):
    """A prompt and what is left of it, as one sequence."""

    data: list[ChangeShown]


class SearchBody(Asked):
    """A text to find stored prompts by."""

    query: Text
    limit: Annotated[int, Field(ge=1, le=100)] = 10


class Hit(BaseModel):
    """A stored prompt, how near it is (a cosine), and its artifacts."""

    prompt_hash: str
    similarity: float
    artifacts: list[str]


class Hits(BaseModel):
    """Nearest first."""

    data: list[Hit]


class Health(BaseModel):
    """Whether the server, and each process of it, answers."""

    status: Literal["ok", "starting"]
    processes: dict[str, bool] = {}


PROBLEMS: Mapping[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "Refused: the message says why."},
    "5XX": {"model": Problem, "description": "Not now; with 503, Retry-After says when."},
}
