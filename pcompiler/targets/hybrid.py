"""A compacted cache with the companion patch that was solved on top of it: one artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from pcompiler.config import TargetConfig
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import Prefix
from pcompiler.targets.base import Built, Compilation, Target
from pcompiler.targets.encoding import CACHE, COMPACTED, PATCH, from_tensors
from pcompiler.targets.fitted import Recipe, built, companion, fit

DEFAULT_FACTOR = 10.0


class Hybrid(Target):
    """Each layer's keys are compacted, then its W_down is patched for what they still lack."""

    name = "hybrid"
    settings = ("factor", "budget", "bits", "rank", "budget_bytes", "strength", "refine")

    def build(self, compilation: Compilation) -> Built:
        """The cache with its patch; where that is of no use, a cache that was fitted without."""
        settings = self.resolved(compilation.config.targets)
        factor = settings.factor
        assert factor is not None
        (patched,) = fit(compilation, [Recipe(factor, settings.rank)])
        chosen, notes = companion(
            compilation, patched, lambda: fit(compilation, [Recipe(factor, rank=0)])[0]
        )
        return built(compilation, chosen, {"factor": factor, "rank": settings.rank, **notes})

    def resolved(self, settings: TargetConfig) -> TargetConfig:
        """10× where no factor was given."""
        return settings if settings.factor else replace(settings, factor=DEFAULT_FACTOR)

    def fits(self, _settings: TargetConfig) -> bool:
        """Whether anything is fitted on probes: always."""
        return True

    def attach(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Prefix:
        """Both halves; neither loads without the other."""
        return from_tensors(model, tensors, CACHE | COMPACTED | PATCH)


TARGET = Hybrid()
