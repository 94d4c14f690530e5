"""The prompt with less text: nothing lost but repetitions, or shortened to a number of tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pcompiler.config import TargetConfig
from pcompiler.dynamics import salience
from pcompiler.dynamics.packs import Row
from pcompiler.errors import DamageError
from pcompiler.ir import Prompt
from pcompiler.model import LanguageModel
from pcompiler.passages import passages, phrases
from pcompiler.passes import deduplicate, normalize
from pcompiler.passes.protect import Span
from pcompiler.passes.shorten import Settings, Shortened, Shortener
from pcompiler.runtime.decode import answer_all
from pcompiler.runtime.prefix import Prefix, prefill
from pcompiler.targets.base import Built, Compilation, Target
from pcompiler.template import Template

PROBE_SHARE = 0.25  # of the prompt's tokens: questions cost about twice a prefill's tokens
LEAST_PROBE_TOKENS = 64


class Text(Target):
    """Passes over the prompt; the artifact is the remaining context, as text and as messages."""

    name = "text"
    settings = ("rate", "target_tokens", "ranking", "protect", "force", "section", "duplicates")

    def resolved(self, settings: TargetConfig) -> TargetConfig:
        """Where nothing is shortened, no other setting counts; near repetitions go if one is."""
        if not self._shortens(settings):
            exact = settings.duplicates == "auto"
            plain = TargetConfig(duplicates="exact" if exact else settings.duplicates)
            return replace(settings, **{name: getattr(plain, name) for name in self.settings})
        duplicates = "near" if settings.duplicates == "auto" else settings.duplicates
        return replace(settings, duplicates=duplicates)

    def asks(self, settings: TargetConfig) -> bool:
        """Whether the user's fit queries decide what matters."""
        return self._shortens(settings) and settings.ranking == "probes"

    def uses_teacher(self, settings: TargetConfig) -> bool:
        """Whether the model ranks."""
        return self.asks(settings)

    def build(self, compilation: Compilation) -> Built:
        """Normalize and deduplicate, or where asked for rank and prune; tokenize."""
        settings = self.resolved(compilation.config.targets)
        fit: dict[str, Any] = {}
        with compilation.timed("passes"):
            if self._shortens(settings):
                shortened = shorten(compilation, settings)
                prompt = shortened.prompt
                fit = {"ranking": settings.ranking, "let_go": list(shortened.let_go)}
            else:
                tidy = normalize.run(compilation.prompt)
                prompt = deduplicate.run(tidy, _repeats(tidy, settings.duplicates))
        template = Template.of(compilation.model.tokenizer, prompt.messages)
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        tensors = {
            "text": _bytes(template.context_text),
            "messages": _bytes(json.dumps(messages, ensure_ascii=False)),
        }
        return Built(tensors, len(template.context_ids()), fit)

    def attach(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Prefix:
        """Prefill the remaining context."""
        return prefill(model, self.context_ids(model, tensors))

    def context_ids(self, model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> list[int]:
        """Tokens of the remaining context. Raises DamageError."""
        text = tensors.get("text")
        if text is None or text.dim() != 1 or text.dtype != torch.uint8:
            raise DamageError("the artifact has no text.")
        context = text.numpy().tobytes().decode(errors="replace")
        ids: list[int] = model.tokenizer.encode(context, add_special_tokens=False)
        if not 0 < len(ids) < model.window:
            raise DamageError(
                f"the artifact's text has {len(ids)} tokens, the window {model.window}."
            )
        return ids

    @staticmethod
    def _shortens(settings: TargetConfig) -> bool:
        asked = settings.rate not in (None, 1) or settings.target_tokens is not None
        return asked or bool(settings.section)


def shorten(compilation: Compilation, settings: TargetConfig) -> Shortened:
    """The prompt in the tokens that the settings ask for.

    Raises:
        BudgetError: what has to stay takes more.
        ConfigError: a section or class that there is not.
    """
    budget = settings.target_tokens
    if budget is None:
        budget = round((settings.rate or 1.0) * len(compilation.context))
    return ranked(compilation, settings).to(budget)


def ranked(compilation: Compilation, settings: TargetConfig) -> Shortener:
    """The prompt, ranked once for all rates."""
    options = Settings(settings.protect, settings.force, settings.section)
    key = "ranked", options, settings.ranking, settings.duplicates

    def make() -> Shortener:
        prompt = normalize.run(compilation.prompt)
        tokenizer = compilation.model.tokenizer

        def render(shown: Prompt) -> str:
            return Template.of(tokenizer, shown.messages).context_text

        found = _scores(compilation, render(prompt), settings.ranking)
        scores = None if found is None else found.double().numpy()
        repeated = _repeats(prompt, settings.duplicates)
        return Shortener(prompt, tokenizer.backend_tokenizer, options, repeated, render, scores)

    return compilation.once(key, make)


def _repeats(prompt: Prompt, duplicates: str) -> list[list[Span]]:
    """What says nothing new."""
    if duplicates == "exact":
        return deduplicate.exact(prompt)
    from pcompiler.embed.encoder import Encoder

    return deduplicate.near(prompt, Encoder.load("cpu") if duplicates == "meaning" else None)


def _scores(compilation: Compilation, text: str, ranking: str) -> torch.Tensor | None:
    """(n,) how much each token of the rendered prompt matters; none: the passes know themselves."""
    model = compilation.model
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    if ranking == "lexical":
        return None
    if ranking == "surprise":
        return salience.by_surprise(model, ids)
    same = ids == compilation.context
    prefix = compilation.teacher if same else prefill(model, ids)
    return salience.by_probes(model, prefix, _probes(compilation, len(ids)))


def _probes(compilation: Compilation, tokens: int) -> list[Row]:
    """A few words from each passage, as far as they cost little; and what the user asks."""
    tokenizer = compilation.model.tokenizer
    rows, room = [], max(LEAST_PROBE_TOKENS, int(PROBE_SHARE * tokens))
    for phrase in phrases(passages(compilation.prompt), compilation.config.compile.seed):
        ids = tokenizer.encode(phrase, add_special_tokens=False)
        if (room := room - len(ids)) < 0:
            break
        rows.append(Row(ids, ids, [0]))
    return [*rows, *_asked(compilation)]


def _asked(compilation: Compilation) -> list[Row]:
    """The user's fit queries with the teacher's answers."""
    probes = compilation.fit_queries
    if not probes:
        return []  # and no prefill of the full prompt, which may not be the one that is ranked
    queries = compilation.query_ids(probes)
    limit = compilation.config.probes.answer_tokens
    answers = answer_all(compilation.model, compilation.teacher, queries, limit, "fit answers")
    return [Row(q, q, a.tokens, asked=True) for q, a in zip(queries, answers, strict=True)]


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


TARGET = Text()
