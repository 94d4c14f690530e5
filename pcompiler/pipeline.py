"""The whole compiler on one screen: source → prompt → target → fidelity → gate → store."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone

from pcompiler import fidelity, latency, outcome, targets
from pcompiler.address import address, fingerprint
from pcompiler.clock import Clock
from pcompiler.codec import tensors, zstd
from pcompiler.config import Config, TargetConfig, check_gates
from pcompiler.errors import GateMissed, MismatchError, ModelError
from pcompiler.frontend import parse
from pcompiler.ir import Fidelity, Probe
from pcompiler.lazy import lazy
from pcompiler.model import LanguageModel
from pcompiler.passages import Coverage, passages
from pcompiler.queries import to_lines
from pcompiler.ranges import named
from pcompiler.runtime import together
from pcompiler.runtime.prefix import Prefix
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.key import content_hash
from pcompiler.store.shelf import Artifacts
from pcompiler.table import percent
from pcompiler.targets.base import Built, Compilation, Target

STAGES = ("probing", "walk", "solving")  # of fitting, as the header tells their times


@dataclass(frozen=True)
class Work:
    """One prompt to compile, to one target or several: they share the teacher and its answers.

    Attributes:
        source: the prompt as it was given.
        queries: the user's held-out probes; none: the model writes them (self-study).
        model: for which model.
        config: with which settings.
        fit_queries: the user's probes to fit on, beside those of self-study.
    """

    source: str
    queries: Sequence[Probe] | None
    model: LanguageModel
    config: Config
    fit_queries: Sequence[Probe] = ()

    @lazy
    def compilation(self) -> Compilation:
        """The parsed prompt with its model."""
        given = self.queries or (), self.fit_queries
        clock = Clock()
        made = Compilation(parse(self.source), self.model, self.config, *given)
        made.spend("parse", clock.elapsed())
        return made

    @property
    def reference(self) -> fidelity.Reference:
        """The teacher's answers to the held-out probes."""
        known = self.compilation
        return known.once("said", lambda: fidelity.reference(known, known.probes))

    @lazy
    def uncovered(self) -> list[int]:
        """Numbers of the held-out probes about a passage that no fitting probe is about."""
        known, decode = self.compilation, self.model.tokenizer.decode
        held_out = zip(known.probes, self.reference.answers, strict=True)
        fitted = zip(known.fitting, known.rows, strict=True)
        return Coverage(passages(known.prompt)).uncovered(
            [f"{probe.query} {decode(answer.tokens)}" for probe, answer in held_out],
            [f"{probe.query} {decode(row.answer)}" for probe, row in fitted],
        )

    def check(self) -> None:
        """Refuse a prompt or query that does not fit the model's window, before it is run."""
        self.compilation.query_ids([*(self.queries or ()), *self.fit_queries])

    def with_targets(self, settings: TargetConfig) -> Work:
        """The same work to other settings; what was costly and does not depend on them is kept."""
        return self._with(replace(self.config, targets=settings))

    def for_target(self, target: Target) -> Work:
        """The same work with as many fitting probes as the target asks for."""
        return self._with(replace(self.config, probes=target.probes(self.config.probes)))

    def _with(self, config: Config) -> Work:
        if config == self.config:
            return self
        other = replace(self, config=config)
        vars(other)["compilation"] = self.compilation.with_config(config)
        return other

    def address(self, target: Target) -> str:
        """The id that this compiles to; costs hashing only."""
        card, given = self.model.card.fingerprint, (self.queries, self.fit_queries)
        return address(target, card, self.config, self.source, *given)


@dataclass(frozen=True)
class Gates:
    """How faithful an artifact has to be to be stored; None: not asked for."""

    min_agreement: float | None = None
    max_kl: float | None = None

    def __post_init__(self) -> None:
        check_gates(self.min_agreement, self.max_kl)

    def check(self, measured: Fidelity, size_bytes: int) -> None:
        """Raise GateMissed, with both figures, for what is less faithful."""
        low, high = self.min_agreement, self.max_kl
        if low is not None and measured.agreement < low:
            raise GateMissed(
                f"agreement is {percent(measured.agreement)}, below the {percent(low)} asked for; "
                "nothing was stored. Lower --min-agreement, or compile to kv, which is exact.",
                *(measured, size_bytes),
            )
        if high is not None and measured.kl > high:
            raise GateMissed(
                f"KL is {measured.kl:.3g} nats per token, above the {high:.3g} asked for; "
                "nothing was stored. Raise --max-kl, or compile to kv, which is exact.",
                *(measured, size_bytes),
            )


@dataclass(frozen=True)
class Compiled:
    """What ``compile_prompt`` returns.

    Attributes:
        header: of the artifact, which is now in the store.
        cached: whether it was there already.
        elapsed_s: wall seconds of this call.
    """

    header: Header
    cached: bool
    elapsed_s: float

    @property
    def id(self) -> str:
        """The artifact's address in the store."""
        return self.header.id

    @property
    def fidelity(self) -> Fidelity:
        """How faithful the artifact is."""
        return self.header.fidelity


@outcome.reported
def compile_prompt(work: Work, target_name: str, store: Artifacts, gates: Gates) -> Compiled:
    """Compile a prompt to a target, measure it, and store it if it passes the gates.

    ``timing`` in the header tells building and storing (``compile_s``) from measuring fidelity
    (``measure_s``), which costs more than the build when there are many probes. A prefill that
    an earlier target of the same work has done counts for both; the teacher's answers for one.

    Raises:
        GateMissed: less faithful than asked for; nothing was stored.
        UserError: bad input, or a store that cannot be written; nothing was stored.
    """
    clock = Clock()
    target = target_for(target_name, work.model)
    hit = store.find(work.address(target))
    if hit is not None:
        gates.check(hit.fidelity, hit.body_bytes)
        return Compiled(hit, True, clock.elapsed())
    work = work.for_target(target)
    known, settings = work.compilation, work.config.targets
    with clock.lap("compile_s"):
        work.check()
        # What an earlier target has paid for is part of this one's cost as well.
        needed = {"prefill": target.uses_teacher(settings), "probing": target.fits(settings)}
        clock.laps["compile_s"] = sum(s for stage, s in known.spent.items() if needed.get(stage))
        if target.uses_teacher(settings):
            _ = known.teacher
    with clock.lap("measure_s"):
        _ = known.probes  # written by the model, unless the user gave them
    with clock.lap("compile_s"):
        for stage in STAGES[1:]:
            known.spent.pop(stage, None)  # another target's
        with known.timed("build"), named(f"build {target.name}"):
            built = target.build(known)
        with known.timed("codec"):
            raw = tensors.to_planes(built.tensors)
            how = work.config.store
            level, threads, far = how.zstd_level, how.zstd_threads, how.zstd_long_distance
            body = zstd.compress(raw, level, threads, long_distance=far)
    with clock.lap("measure_s"), known.timed("measure"):
        stored = tensors.from_planes(zstd.decompress(body, len(raw)))
        with named(f"attach {target.name}"):
            student = target.attach(work.model, stored)
        apart = work.uncovered if target.fits(settings) else ()
        measured = fidelity.measure(work.model, student, work.reference, apart)
    gates.check(measured, len(body))
    with clock.lap("compile_s"), known.timed("store"):
        header = _header(work, target, built, measured, body, len(raw))
        fitting = to_lines(known.fitting) if target.fits(settings) else ""
        store.put(Artifact(header, body), work.source, to_lines(known.probes), fitting)
    try:
        with known.timed("first_token"):
            header = replace(header, timing=_timing(work, target, store, header, clock))
    except BaseException:  # interrupted, or cancelled: then nothing is stored
        store.delete(header.id)
        raise
    store.annotate(header)
    return Compiled(header, False, clock.elapsed())


def _timing(
    work: Work, target: Target, store: Artifacts, header: Header, clock: Clock
) -> dict[str, float]:
    """Seconds by stage, and to the first token with the artifact in the store and without."""
    known, fits, company = work.compilation, target.fits(work.config.targets), together.company()
    return {
        **clock.laps,
        **({"group": float(company)} if company > 1 else {}),  # whose seconds these are as well
        **({f"{s}_s": known.spent[s] for s in STAGES if s in known.spent} if fits else {}),
        "ttft_s": latency.of_artifact(work.model, target, store, header.id, work.reference),
        "full_ttft_s": latency.of_full_prompt(work.model, work.reference, known.spent["prefill"]),
    }


def attach(model: LanguageModel, artifact: Artifact) -> Prefix:
    """Put an artifact in front of the model that it was made for.

    Raises:
        MismatchError: another model or tokenizer, or a target that is not known here.
        DamageError: its bytes are not what was written.
    """
    check_model(model, artifact.header)
    name = artifact.header.target
    with named(f"attach {name}"):
        return target_for(name, model).attach(model, artifact.tensors())


def check_model(model: LanguageModel, header: Header) -> None:
    """Raise MismatchError, naming what differs, unless the artifact was made for this model."""
    differences = model.card.differences(header.model)
    if differences:
        raise MismatchError(
            f"artifact {header.id} was compiled for {header.model_name!r}, not for {model.name!r}: "
            f"this model has {'; '.join(differences)}. Compile the prompt again for this model."
        )


def remeasure(work: Work, artifact: Artifact) -> Fidelity:
    """The fidelity of an artifact that is there already, on the work's probes."""
    return fidelity.measure(work.model, attach(work.model, artifact), work.reference)


def target_for(name: str, model: LanguageModel) -> Target:
    """A target, for a model that it works for. Raises ConfigError, ModelError."""
    target = targets.get(name)
    if model.card.family not in target.families:
        raise ModelError(
            f"target {name} does not work for {model.card.family} models yet; "
            f"it works for: {', '.join(target.families)}."
        )
    return target


def _header(
    work: Work, target: Target, built: Built, measured: Fidelity, body: bytes, tensor_bytes: int
) -> Header:
    moment = os.environ.get("SOURCE_DATE_EPOCH")  # reproducible builds' clock
    created = datetime.fromtimestamp(float(moment) if moment else time.time(), tz=timezone.utc)
    known, fit = work.compilation, built.fit
    lead = known.template.lead() if built.kept_tokens == 0 else ""
    if target.fits(work.config.targets):
        fit = fit | {"probes_hash": content_hash(to_lines(known.fitting))}
    return Header(
        id=work.address(target),
        target=target.name,
        model_name=work.model.name,
        model=asdict(work.model.card),
        config=fingerprint(target, work.config),
        prompt_hash=content_hash(work.source),
        probes_hash=content_hash(to_lines(known.probes)),
        probes_from="queries" if work.queries else "self-study",
        answer_limit=work.config.probes.answer_tokens,
        context_tokens=len(known.context),
        kept_tokens=built.kept_tokens,
        before=lead + known.template.before,
        after=known.template.after,
        fidelity=measured,
        created=created.isoformat(timespec="seconds"),
        timing={},
        body_bytes=len(body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        tensor_bytes=tensor_bytes,
        fit=fit,
    )
