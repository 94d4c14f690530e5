"""The contract of a target, and what every target is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import torch

from pcompiler import clock, self_study
from pcompiler.config import Config, ProbeConfig, TargetConfig
from pcompiler.dynamics.packs import Row
from pcompiler.errors import InputError
from pcompiler.families import FAMILIES
from pcompiler.ir import Probe, Prompt
from pcompiler.lazy import lazy
from pcompiler.mixed import mixed
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import answer_all
from pcompiler.runtime.prefix import Prefix, prefill
from pcompiler.template import Template

T = TypeVar("T")

# Of so many fitting probes one is for choosing: of those that the user gave, and of self-study.
VALIDATION_EVERY = {True: 3, False: 6}


@dataclass(frozen=True)
class Compilation:
    """One prompt on its way through the compiler; what is costly is made once, when asked for.

    Attributes:
        prompt: what is compiled.
        model: for which model.
        config: with which settings.
        queries: the user's held-out probes; none: the model writes them.
        fit_queries: the user's probes to fit on, beside those of self-study.
        spent: seconds by stage, none counted twice but solving, which is within walk. Of what is
            made once: parse, tokenize, prefill and probing (writing and answering); of the last
            targets: walk and solving; of all targets: passes, and the pipeline's build (what is
            left of it), codec, measure, store and first_token.
    """

    prompt: Prompt
    model: LanguageModel
    config: Config
    queries: Sequence[Probe] = ()
    fit_queries: Sequence[Probe] = ()
    spent: dict[str, float] = field(default_factory=dict, repr=False, compare=False)
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @lazy
    def template(self) -> Template:
        """The chat template around the full prompt."""
        return Template.of(self.model.tokenizer, self.prompt.messages)

    @lazy
    def context(self) -> list[int]:
        """The full prompt's tokens.

        Raises:
            InputError: they leave no room in the model's window for a query and its answer.
        """
        with self.timed("tokenize"):
            ids, probes = self.template.context_ids(), self.config.probes
        room = self.model.window - probes.query_tokens - probes.answer_tokens
        if len(ids) > room:
            raise InputError(
                f"the prompt has {len(ids)} tokens; {self.model.name} has a window of "
                f"{self.model.window}, which leaves {room} beside a query and its answer. "
                "Shorten the prompt, or use a model with a longer window."
            )
        return ids

    def query_ids(self, probes: Sequence[Probe]) -> list[list[int]]:
        """Tokens of each probe's turn.

        Raises:
            InputError: one is too long for the model's window, after the prompt.
        """
        queries = [self.template.query_ids(probe.query) for probe in probes]
        longest, answer = max(map(len, queries), default=0), self.config.probes.answer_tokens
        if len(self.context) + longest + answer > self.model.window:
            raise InputError(
                f"a query has {longest} tokens; with the prompt ({len(self.context)}) and its "
                f"answer ({answer}) it passes the window of {self.model.window}. Shorten it."
            )
        return queries

    @lazy
    def teacher(self) -> Prefix:
        """The model with the full prompt in place."""
        with self.timed("prefill"):
            return prefill(self.model, self.context)

    @lazy
    def probes(self) -> Sequence[Probe]:
        """Held out: what fidelity is measured on, and nothing is fitted on."""
        settings, seed = self.config.probes, self.config.compile.seed
        return self.queries or self_study.held_out(
            self.mixed(), self.template, self.teacher, settings, seed
        )

    @lazy
    def fitting(self) -> Sequence[Probe]:
        """What patches and caches are fitted on: the user's probes for it, and self-study.

        Raises:
            InputError: there are too few to fit on and to choose on.
        """
        return self.once(("fitting", self.config.probes.fitting), self._fitting)

    def _fitting(self) -> Sequence[Probe]:
        held_out = {probe.query for probe in self.probes}
        asked = [probe for probe in self.fit_queries if probe.query not in held_out]
        teacher = self.teacher
        with self.timed("probing"):
            studied = self_study.fitting(
                *(self.prompt, self.mixed(), self.template, teacher, self.config.probes),
                seed=self.config.compile.seed,
                given=[probe.query for probe in asked],
                taken=held_out | {probe.query for probe in asked},
            )
        if len(asked) + len(studied) < 2 * VALIDATION_EVERY[False]:
            raise InputError(
                f"{len(asked) + len(studied)} fitting probes are too few; raise [probes] fitting, "
                "or give more with --fit-queries."
            )
        return [*asked, *studied]

    @lazy
    def rows(self) -> list[Row]:
        """The fitting probes with the teacher's answers, some of them for validation."""
        return self.once(("rows", self.config.probes.fitting), self._rows)

    def _rows(self) -> list[Row]:
        model = self.mixed()  # held here, so that writing and answering share one
        queries = self.query_ids(self.fitting)
        bare = [self.template.bare_ids(probe.query) for probe in self.fitting]
        limit = self.config.probes.answer_tokens
        with self.timed("probing"):
            answers = answer_all(model, self.teacher, queries, limit, "fitting answers")
        given = {probe.query for probe in self.fit_queries}
        seen = {True: 0, False: 0}
        rows = []
        for probe, query, alone, answer in zip(self.fitting, queries, bare, answers, strict=True):
            asked = probe.query in given
            seen[asked] += 1
            validation = seen[asked] % VALIDATION_EVERY[asked] == 0
            rows.append(Row(query, alone, answer.tokens, validation, asked))
        return rows

    def mixed(self, kept: bool = True) -> LanguageModel:
        """The model for probes and what is fitted on them; see ``mixed.mixed``."""
        return mixed(self.model, self.config.probes.precision, kept)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What a target makes of the prompt and uses again with other settings, by name."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def with_config(self, config: Config) -> Compilation:
        """The same prompt with other [targets], or another number of fitting probes.

        What does not depend on these is kept: the teacher, held-out probes, and what is fitted on.
        """
        fitting, spent = config.probes.fitting, self.spent
        assert config.probes == replace(self.config.probes, fitting=fitting), "other answers"
        if fitting != self.config.probes.fitting:
            others = {stage: s for stage, s in spent.items() if stage != "probing"}
            spent = self.once(("spent", fitting), lambda: others)
        other = replace(self, config=config, spent=spent)
        kept = ("template", "context", "teacher", "probes")  # and once()
        vars(other).update({name: vars(self)[name] for name in kept if name in vars(self)})
        return other

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what a ``with`` block takes to a stage, without what stages inside it have taken."""
        start, before = clock.seconds(), self._told()
        yield
        self.spend(stage, clock.seconds() - start - (self._told() - before))

    def _told(self) -> float:
        return sum(s for stage, s in self.spent.items() if stage != "solving")  # which walk has

    def spend(self, stage: str, seconds: float) -> None:
        """Add to what a stage has taken."""
        self.spent[stage] = self.spent.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Built:
    """What a target made of a prompt.

    Attributes:
        tensors: everything that ``attach`` needs, by name.
        kept_tokens: tokens that stand before the query when it is attached.
        fit: what was chosen and seen on the way, for the header.
    """

    tensors: dict[str, torch.Tensor]
    kept_tokens: int
    fit: dict[str, Any] = field(default_factory=dict)


class Target(ABC):
    """One way to stand in for a prompt.

    ``attach(model, build(c).tensors)`` stands before the query as ``c.teacher`` would, up to
    the target's loss. ``build`` changes neither the model nor the prompt, and is deterministic.
    """

    name: ClassVar[str]
    families: ClassVar[tuple[str, ...]] = FAMILIES
    settings: ClassVar[tuple[str, ...]] = ()  # the fields of TargetConfig that it goes by
    fitting: ClassVar[int | None] = None  # probes of self-study, if others than ProbeConfig's

    def resolved(self, settings: TargetConfig) -> TargetConfig:
        """The settings with the target's own defaults where none were given."""
        return settings

    def probes(self, probes: ProbeConfig) -> ProbeConfig:
        """The same with the target's own number to fit on, where none was given."""
        return probes if probes.fitting is not None else replace(probes, fitting=self.fitting)

    def fits(self, _settings: TargetConfig) -> bool:
        """Whether ``build`` fits anything on probes with these settings."""
        return False

    def asks(self, settings: TargetConfig) -> bool:
        """Whether ``build`` goes by the user's fit queries: all that fits on probes does."""
        return self.fits(settings)

    def uses_teacher(self, _settings: TargetConfig) -> bool:
        """Whether ``build`` runs the model over the full prompt."""
        return True

    @abstractmethod
    def build(self, compilation: Compilation) -> Built:
        """Compile. Raises InputError for a prompt that this target cannot take."""

    @abstractmethod
    def attach(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Prefix:
        """Put the artifact's tensors in front of the model.

        Raises:
            DamageError: a tensor is missing, or of another shape than the model's.
        """
