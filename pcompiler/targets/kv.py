"""The prompt's KV cache: exact but for rounding to 16 bit, or compacted by attention matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from pcompiler.config import TargetConfig
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import Prefix
from pcompiler.targets.base import Built, Compilation, Target
from pcompiler.targets.encoding import CACHE, from_tensors, to_tensors
from pcompiler.targets.fitted import Recipe, built, fit


class KV(Target):
    """4·L·H_kv·d bytes a kept token in 16 bit (SmolLM2-135M: 23,040), about half that in 8."""

    name = "kv"
    settings = ("factor", "budget", "bits", "refine")

    def build(self, compilation: Compilation) -> Built:
        """One prefill, rounded; with a factor above 1, fewer keys fitted on probes."""
        settings = compilation.config.targets
        if not self.fits(settings):
            exact = compilation.teacher
            return Built(to_tensors(exact, settings.bits), exact.kept)
        assert settings.factor is not None
        (prefix,) = fit(compilation, [Recipe(settings.factor, rank=0)])
        return built(compilation, prefix, {"factor": settings.factor})

    def resolved(self, settings: TargetConfig) -> TargetConfig:
        """No factor where nothing is left out: a factor of 1 is the exact cache."""
        return settings if self.fits(settings) else replace(settings, factor=None)

    def fits(self, _settings: TargetConfig) -> bool:
        """Whether anything is fitted on probes."""
        return _settings.factor is not None and _settings.factor > 1

    def attach(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Prefix:
        """The stored cache on the model's device; cast to its dtype when a cache is made."""
        return from_tensors(model, tensors, CACHE)


TARGET = KV()
