"""Prompts to artifacts of one target, through the same pipeline as one prompt by itself.

A maker has the model and no store: it compiles into memory, so that ``ttft_s`` in the header is
from there. What it has made is stored with its times in one write, so that a killed run leaves
whole artifacts only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from pcompiler import nearest, targets
from pcompiler.address import address
from pcompiler.config import Config
from pcompiler.errors import MismatchError
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Gates, Work, compile_prompt, target_for
from pcompiler.scale.base import Entry
from pcompiler.scale.keeper import Keeper, Maker, Parts, Recipe
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.db import Store
from pcompiler.store.shelf import Shelf


@dataclass(frozen=True)
class ArtifactRecipe(Recipe):
    """Artifacts of ``config.compile.target`` for ``config.model``.

    Attributes:
        config: the settings.
        threads: of torch in each process; another number may round differently.
    """

    config: Config
    threads: int = 1

    def load(self) -> Maker:
        """Load the model. Raises ModelError, DeviceError, ConfigError."""
        torch.set_num_threads(self.threads)
        of = self.config.model
        model = LanguageModel.load(of.name, of.device, of.dtype)
        target_for(self.config.compile.target, model)
        return _ArtifactMaker(model, self.config)


class _ArtifactMaker(Maker):
    def __init__(self, model: LanguageModel, config: Config) -> None:
        self._model, self._config = model, config

    def about(self) -> bytes:
        return self._model.card.fingerprint.encode()

    def make(self, entry: Entry) -> Parts:
        shelf, config = Shelf(), self._config
        work = Work(entry.source, _probes(entry), self._model, config)
        done = compile_prompt(work, config.compile.target, shelf, _gates(config))
        probes, fitting = shelf.texts[done.id]
        body = shelf.get(done.id).body
        return done.header.record(), body, probes.encode(), fitting.encode()


class Artifacts(Keeper):
    """Keeps artifacts.

    Args:
        store: open for writing.
        config: the settings, of which ``compile`` says the target and the gates.
        threads: of torch in each process that makes.

    Raises:
        ConfigError: no such target.
    """

    room: ClassVar[int] = 2  # the next is at hand when one is done

    def __init__(self, store: Store, config: Config, threads: int = 1) -> None:
        super().__init__()
        self._config, self._gates = _found_everywhere(config), _gates(config)
        self.recipe = ArtifactRecipe(self._config, threads)
        self._store = store
        self._target = targets.get(config.compile.target)
        self._prompts = nearest.of_static(store)

    def address(self, entry: Entry) -> str:
        """See ``Keeper``."""
        model, probes = self.about.decode(), _probes(entry)
        return address(self._target, model, self._config, entry.source, probes)

    def has(self, key: str) -> bool:
        """See ``Keeper``."""
        header = self._store.find(key)
        if header is not None:
            self._gates.check(header.fidelity, header.body_bytes)
        return header is not None

    def keep(self, key: str, entry: Entry, parts: Parts) -> None:
        """See ``Keeper``; its vector comes first, as the artifact says that all is done."""
        record, body, probes, fitting = parts
        header, _ = Header.parse(record)
        if header.id != key:
            raise MismatchError(
                f"artifact {header.id} was made for {key}: the processes that make run another "
                "pcompiler; install the same one on every machine."
            )
        if self._prompts is not None:
            self._prompts.add(entry.source)
        self._store.put(Artifact(header, body), entry.source, probes.decode(), fitting.decode())


def _gates(config: Config) -> Gates:
    return Gates(config.compile.min_agreement, config.compile.max_kl)


def _found_everywhere(config: Config) -> Config:
    """A model's folder, from wherever a process is started."""
    folder = Path(config.model.name).expanduser()
    if not config.model.name or not folder.is_dir():
        return config
    return replace(config, model=replace(config.model, name=str(folder.resolve())))


def _probes(entry: Entry) -> tuple[Probe, ...] | None:
    return tuple(map(Probe, entry.queries)) or None
