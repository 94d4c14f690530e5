"""The prompt with less text: whitespace without meaning and repeated parts are gone."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pcompiler.errors import DamageError
from pcompiler.model import LanguageModel
from pcompiler.passes import deduplicate, normalize
from pcompiler.runtime.prefix import Prefix, prefill
from pcompiler.targets.base import Built, Compilation, Target
from pcompiler.template import Template


class Text(Target):
    """Passes over the prompt; the artifact is the remaining context, as text and as tokens."""

    name = "text"

    def build(self, compilation: Compilation) -> Built:
        """Normalize, deduplicate, tokenize."""
        prompt = deduplicate.run(normalize.run(compilation.prompt))
        template = Template.of(compilation.model.tokenizer, prompt.messages)
        ids = template.context_ids()
        text = torch.frombuffer(bytearray(template.context_text.encode()), dtype=torch.uint8)
        return Built({"context_ids": torch.tensor(ids, dtype=torch.int32), "text": text}, len(ids))

    def attach(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Prefix:
        """Prefill the remaining context."""
        ids = tensors.get("context_ids")
        if ids is None or ids.dim() != 1 or not 0 < len(ids) < model.window:
            raise DamageError("the artifact has no tokens that fit the model's window.")
        if int(ids.min()) < 0 or int(ids.max()) >= model.card.vocabulary:
            raise DamageError("the artifact has tokens outside the model's vocabulary.")
        return prefill(model, ids.tolist())


TARGET = Text()
