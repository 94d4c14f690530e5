"""The id that a prompt compiles to, from its model's fingerprint alone: no model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pcompiler.config import Config
from pcompiler.ir import Probe
from pcompiler.queries import to_lines
from pcompiler.store.key import artifact_id, content_hash

if TYPE_CHECKING:
    from pcompiler.targets.base import Target


def address(
    target: Target,
    model: str,
    config: Config,
    source: str,
    queries: Sequence[Probe] | None = None,
    fit_queries: Sequence[Probe] = (),
) -> str:
    """The content address of an artifact; costs hashing only.

    Args:
        target: what is built.
        model: fingerprint of the model's card.
        config: the settings.
        source: the prompt.
        queries: the user's held-out probes; none: the model writes them.
        fit_queries: the user's probes to fit on.
    """
    probes = [queries, fit_queries if target.asks(config.targets) else None]
    given = [content_hash(to_lines(some)) if some else "self-study" for some in probes]
    settings = fingerprint(target, config)
    return artifact_id(target.name, content_hash(source), model, settings, "+".join(given))


def fingerprint(target: Target, config: Config) -> str:
    """Hash of the settings that the target goes by: the same for what compiles alike."""
    settings = target.resolved(config.targets)
    resolved = replace(config, targets=settings, probes=target.probes(config.probes))
    return resolved.fingerprint(target.settings, fitted=target.fits(settings))
