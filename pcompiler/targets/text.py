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
    """Passes over the prompt; the artifact is the remaining context, as text."""

    name = "text"

    def build(self, compilation: Compilation) -> Built:
        """Normalize, deduplicate, tokenize."""
        prompt = deduplicate.run(normalize.run(compilation.prompt))
        template = Template.of(compilation.model.tokenizer, prompt.messages)
        text = torch.frombuffer(bytearray(template.context_text.encode()), dtype=torch.uint8)
        return Built({"text": text}, len(template.context_ids()))

    def attach(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Prefix:
        """Prefill the remaining context."""
        text = tensors.get("text")
        if text is None or text.dim() != 1 or text.dtype != torch.uint8:
            raise DamageError("the artifact has no text.")
        context = text.numpy().tobytes().decode(errors="replace")
        ids = model.tokenizer.encode(context, add_special_tokens=False)
        if not 0 < len(ids) < model.window:
            raise DamageError(
                f"the artifact's text has {len(ids)} tokens, the window {model.window}."
            )
        return prefill(model, ids)


TARGET = Text()
