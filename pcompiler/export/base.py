"""The contract of an exporter, what it is given, and the driver that writes its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch

from pcompiler import export, targets
from pcompiler.device import pick
from pcompiler.errors import InputError
from pcompiler.export import folder
from pcompiler.model import LanguageModel, ModelCard
from pcompiler.runtime.prefix import Prefix
from pcompiler.store.artifact import Artifact, Header


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        artifact: any, of a target that the exporter takes.
        source: the prompt that it was compiled from, where it is known.
        patch_only: of a hybrid, the patch without the cache that it was solved for.
        bias: whether a patch keeps its output biases.
    """

    artifact: Artifact
    source: str | None = None
    patch_only: bool = False
    bias: bool = True

    @property
    def header(self) -> Header:
        """What is known of the artifact."""
        return self.artifact.header

    def prefix(self) -> Prefix:
        """The artifact on the CPU; the model's weights are not needed for that.

        Raises:
            DamageError: a tensor is missing, or of another shape than the model's.
        """
        card = ModelCard(**self.header.model)
        shape = LanguageModel(self.header.model_name, None, None, pick("cpu", card.dtype), card)
        return targets.get(self.header.target).attach(shape, self.artifact.tensors())


@dataclass(frozen=True)
class Exported:
    """What an exporter made.

    Attributes:
        files: bytes by path in the folder; "/" parts folders.
        notes: what a user has to know of it, a sentence each.
        facts: the same for machines.
    """

    files: dict[str, bytes]
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


class Exporter(ABC):
    """One form that other programs read. ``files`` writes nothing and loads no model."""

    name: ClassVar[str]

    @abstractmethod
    def files(self, request: Request) -> Exported:
        """The folder's files, README.md among them. Raises InputError for what has no such form."""


def write(request: Request, to: str, out: Path) -> Exported:
    """Export an artifact into a folder that is not there yet, or is empty: all of it or nothing.

    Raises:
        ConfigError: no such exporter.
        InputError: not this target to this form, or the folder has something in it.
        UserError: the folder cannot be written.
        DamageError: the artifact is not whole.
    """
    exporter = export.get(to)
    check(request, to)
    folder.check(out)
    exported = exporter.files(request)
    folder.write(out, exported.files)
    return exported


def check(request: Request, to: str) -> None:
    """Refuse a target that has no such form, and options that would change nothing."""
    target, name = request.header.target, request.header.id
    if target not in export.TAKES[to]:
        fits = [form for form, takes in export.TAKES.items() if target in takes]
        every = "; ".join(f"{form}: {', '.join(takes)}" for form, takes in export.TAKES.items())
        raise InputError(
            f"artifact {name} is a {target}, which cannot be exported to {to}. "
            f"Export it to {' or '.join(fits)}. What can be exported to what: {every}."
        )
    if request.patch_only and (target, to) != ("hybrid", "peft"):
        raise InputError("--patch-only is for a hybrid that is exported to peft; leave it out.")
    if not request.bias and target not in ("weights", "hybrid"):
        raise InputError(f"--no-bias is for patches, and a {target} has none; leave it out.")


def to_safetensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """A .safetensors file as other libraries expect it, with the mark of its framework."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(whole, metadata={"format": "pt"})
