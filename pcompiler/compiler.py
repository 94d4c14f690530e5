"""The library's front door: one object that holds the model and the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pcompiler import nearest, pipeline, targets
from pcompiler.closing import Closing
from pcompiler.config import Config, ModelConfig
from pcompiler.errors import ConfigError
from pcompiler.frontend import parse
from pcompiler.group import compile_all
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Compiled, Gates, Work
from pcompiler.remote import opened
from pcompiler.search import Found, search
from pcompiler.session import Session
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.db import Store
from pcompiler.store.names import full_name
from pcompiler.targets.base import Compilation
from pcompiler.template import Template

if TYPE_CHECKING:
    from typing_extensions import Unpack


GROUP, MOST_IN_GROUP = 8, 256  # prompts side by side


class TargetSettings(TypedDict, total=False):
    """The fields of ``TargetConfig``; those left out keep the configuration's value."""

    factor: float | None
    budget: str
    bits: int
    rank: int
    budget_bytes: int | None
    strength: float | None
    refine: int
    rate: float | None
    target_tokens: int | None
    ranking: str
    protect: str
    force: str
    section: str
    duplicates: str


class Compiler(Closing):
    """Compiles prompts for one model into one store.

    Args:
        model: a name (see ``LanguageModel.load``) or a loaded model.
        device: auto, cpu, cuda, cuda:N or mps; for a model given by name.
        store: the store's folder, or an open store; the user's data folder by default.
        config: settings; ``model``, ``device``, ``store`` and ``remote`` go before what it says.
        remote: an object store behind it, which machines share: s3://, gs://, az:// or file://.

    Raises:
        ConfigError: no remote that can be, or one for a store that is open already.

    Example:
        >>> with Compiler() as compiler:
        ...     artifact = compiler.compile("You are the desk of a bicycle shop. …").header
        ...     with compiler.session(artifact) as session:
        ...         print(session.generate("When do you open?"))
    """

    def __init__(
        self,
        model: str | LanguageModel | None = None,
        device: str | None = None,
        store: str | Path | Store | None = None,
        config: Config | None = None,
        remote: str | None = None,
    ) -> None:
        config = config or Config()
        if remote is not None:
            if isinstance(store, Store):
                raise ConfigError("a store that is open has its remote, or none: give its folder.")
            config = replace(config, store=replace(config.store, remote=remote))
        if isinstance(model, str) or device is not None:
            named = ModelConfig(
                model if isinstance(model, str) else config.model.name,
                device or config.model.device,
                config.model.dtype,
            )
            config = replace(config, model=named)
        if isinstance(store, str | Path):
            config = replace(config, store=replace(config.store, path=str(store)))
        self.config = config
        self._store = store if isinstance(store, Store) else None
        self._owns_store = self._store is None
        settings = config.model
        self.model = (
            model
            if isinstance(model, LanguageModel)
            else LanguageModel.load(settings.name, settings.device, settings.dtype)
        )
        self._work: Work | None = None
        self._prompts: nearest.Prompts | None = None

    @property
    def store(self) -> Store:
        """The store; opened for writing when first asked for."""
        if self._store is None:
            self._store = opened(self.config.store)
        return self._store

    def close(self) -> None:
        """Close the store, unless it was given open; the model goes with the object."""
        self._work = self._prompts = None
        if self._store is not None and self._owns_store:
            self._store.close()
            self._store = None

    def compile(
        self,
        source: str,
        target: str | None = None,
        queries: Sequence[str] | None = None,
        min_agreement: float | None = None,
        max_kl: float | None = None,
        fit_queries: Sequence[str] | None = None,
        name: str | None = None,
        **settings: Unpack[TargetSettings],
    ) -> Compiled:
        """Compile a prompt, or find it compiled already.

        Args:
            source: plain text, Markdown, or chat messages as JSON.
            target: kv, text, weights, hybrid; the configuration's by default.
            queries: held-out probes; by default the model writes its own.
            min_agreement: gate, a share from 0 to 1.
            max_kl: gate, nats per answer token.
            fit_queries: probes to fit a cache or patch on, beside those of self-study.
            name: to point at the artifact; what it pointed at is the parent of a new one.
            **settings: ``factor``, ``rank``, ``bits`` and so on: see ``TargetConfig``.

        Raises:
            GateMissed: less faithful than the gates ask for; nothing was stored.
            UserError: bad input or settings; nothing was stored.
        """
        work, gates = self._prepared(source, queries, fit_queries, min_agreement, max_kl, settings)
        target = target or self.config.compile.target
        if name is not None:
            full_name(name)  # refused before work starts
        done = pipeline.compile_prompt(work, target, self.store, gates)
        self._remember(source)
        return self._named(name, done)

    def compile_many(
        self,
        sources: Iterable[str],
        target: str | None = None,
        group: int = GROUP,
        min_agreement: float | None = None,
        max_kl: float | None = None,
        **settings: Unpack[TargetSettings],
    ) -> Iterator[Compiled | Exception]:
        """Compile any number of prompts, so many side by side; see ``group.compile_group``.

        Args:
            sources: taken as room comes free.
            target: as for ``compile``.
            group: prompts whose work on the model is done together, 1 to 256. Memory grows with
                it: each prompt has its own cache and students.
            min_agreement: gate.
            max_kl: gate.
            **settings: of the target.

        Returns:
            In order, for each what ``compile`` returns, or the error that it raises: one prompt
            stops no other.

        Raises:
            ConfigError: a gate or setting out of range, before anything is compiled.
        """
        if not 1 <= group <= MOST_IN_GROUP:
            raise ConfigError(f"group = {group!r}: it must be from 1 to {MOST_IN_GROUP} prompts.")
        gates, config = self._gates(min_agreement, max_kl), self._with(settings)
        target = target or self.config.compile.target
        targets.get(target)  # refused before work starts
        works = (Work(source, None, self.model, config) for source in sources)
        return compile_all(works, target, self.store, gates, group)

    def near_duplicate(self, source: str) -> nearest.Hit | None:
        """Another prompt that says nearly the same and is compiled for this model, if one is.

        Costs milliseconds. None as well where no vectors are at hand: see ``nearest``.
        """
        prompts = self._known_prompts()
        return prompts.near_duplicate(source, asdict(self.model.card)) if prompts else None

    def _known_prompts(self) -> nearest.Prompts | None:
        if self._prompts is None:
            self._prompts = nearest.of_static(self.store)
        return self._prompts

    def _remember(self, source: str) -> None:
        """Let later compiles find this prompt near theirs."""
        if prompts := self._known_prompts():
            prompts.add(source)

    def search(
        self,
        source: str,
        queries: Sequence[str] | None = None,
        min_agreement: float | None = None,
        max_kl: float | None = None,
        fit_queries: Sequence[str] | None = None,
        target: str = "auto",
        name: str | None = None,
        **settings: Unpack[TargetSettings],
    ) -> Found:
        """The smallest artifact that meets the gates; see ``compile``.

        Args:
            source: as for ``compile``, and so are the other arguments.
            queries: held-out probes.
            min_agreement: gate.
            max_kl: gate.
            fit_queries: probes to fit on.
            target: auto: of all kinds, exact if need be; text: of all rates.
            name: as for ``compile``.
            **settings: of the target.

        Raises:
            ConfigError: neither gate was asked for.
            GateMissed, UserError: as for ``compile``.
        """
        work, gates = self._prepared(source, queries, fit_queries, min_agreement, max_kl, settings)
        if name is not None:
            full_name(name)
        found = search(work, self.store, gates, target)
        self._remember(source)
        return replace(found, compiled=self._named(name, found.compiled))

    def _named(self, name: str | None, done: Compiled) -> Compiled:
        if name is None:
            return done
        return replace(done, header=self.store.adopt(done.header, name, not done.cached))

    def _prepared(
        self,
        source: str,
        queries: Sequence[str] | None,
        fit_queries: Sequence[str] | None,
        min_agreement: float | None,
        max_kl: float | None,
        settings: TargetSettings,
    ) -> tuple[Work, Gates]:
        gates, config = self._gates(min_agreement, max_kl), self._with(settings)
        given = tuple(Probe(q) for q in queries) if queries else None
        fit = tuple(Probe(q) for q in fit_queries or ())
        work = Work(source, given, self.model, config, fit)
        if self._work is not None and replace(work, config=self._work.config) == self._work:
            # The same prompt and probes: the teacher and its answers are at hand.
            work = self._work if work == self._work else self._work.with_targets(config.targets)
        self._work = work
        return work, gates

    def _gates(self, min_agreement: float | None, max_kl: float | None) -> Gates:
        standing = self.config.compile
        return Gates(
            standing.min_agreement if min_agreement is None else min_agreement,
            standing.max_kl if max_kl is None else max_kl,
        )

    def _with(self, settings: TargetSettings) -> Config:
        return replace(self.config, targets=replace(self.config.targets, **settings))

    def session(self, artifact: Compiled | Header | Artifact | str) -> Session:
        """Attach an artifact: what ``compile`` returned, an artifact, an id or a name.

        Raises:
            NotFoundError, MismatchError, DamageError: see ``Store.get`` and ``pipeline.attach``.
        """
        if isinstance(artifact, Compiled):
            artifact = artifact.header
        if isinstance(artifact, Header):
            artifact = artifact.id
        loaded = self.store.get(artifact) if isinstance(artifact, str) else artifact
        template = Template(self.model.tokenizer, "", loaded.header.before, loaded.header.after)
        return Session(self.model, pipeline.attach(self.model, loaded), template)

    def full_prompt(self, source: str) -> Session:
        """A session with the whole prompt in place: what an artifact is compared with."""
        compilation = Compilation(parse(source), self.model, self.config)
        return Session(self.model, compilation.teacher, compilation.template)
