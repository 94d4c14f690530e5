"""The passes that lose something, in order: protect, cut, rank, prune to a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pcompiler.errors import ConfigError
from pcompiler.ir import Prompt
from pcompiler.passes import protect, rank, sections
from pcompiler.passes.pieces import Pieces, cut
from pcompiler.passes.prune import Pruner

# Of the budget, for protected spans that stand alone: "39 EUR" without its sentence says nothing.
MAX_STRAYS = 0.05
Render = Callable[[Prompt], str]  # a prompt → the text that the model sees


@dataclass(frozen=True)
class Shortened:
    """What is left of a prompt.

    Attributes:
        prompt: with less text.
        tokens: of all that the model sees.
        let_go: classes whose spans were not protected, because they did not fit.
    """

    prompt: Prompt
    tokens: int
    let_go: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """A prompt as it is counted: its tokens, and where its segments stand in the text.

    Attributes:
        text: all that the model sees.
        starts: (segments,) where each segment's text begins in it, in characters.
        ends: (tokens,) where each token ends in it.
    """

    text: str
    starts: np.ndarray
    ends: np.ndarray

    def tokens_of(self, pieces: Pieces) -> np.ndarray:
        """(tokens,) number of the piece that each token ends in; −1: in none."""
        begins = self.starts[pieces.segment] + pieces.start
        ends = self.starts[pieces.segment] + pieces.end
        found = np.searchsorted(begins, self.ends - 1, "right") - 1
        outside = (found < 0) | (self.ends > ends[np.maximum(found, 0)])
        owners: np.ndarray = np.where(outside, -1, found)
        return owners


class Shortener:
    """A prompt that is ranked once and shortened to any number of tokens.

    Args:
        prompt: what is shortened.
        tokenizer: of the library tokenizers.
        settings: what to protect, force and treat apart.
        render: a prompt → what the model sees of it; by default its texts end to end.
        scores: (tokens,) how much each token of the rendered prompt matters; none: lexical.
    """

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Any,  # noqa: ANN401 - the library has no stubs
        settings: Settings,
        render: Render | None = None,
        scores: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        self.prompt, self._tokenizer, self._settings = prompt, tokenizer, settings
        self._render = render or _plain
        self._scores = None if scores is None else np.asarray(scores, dtype=np.float64)
        self._protected = protect.find(prompt, settings.classes, settings.forced)
        self._section_rates = sections.of_segments(prompt, settings.sections)

    @cached_property
    def view(self) -> View:
        """The whole prompt, counted."""
        text = self._render(self.prompt)
        found = self._tokenizer.encode(text, add_special_tokens=False)
        ends = np.fromiter((end for _, end in found.offsets), dtype=np.int64)
        return View(text, _starts(self.prompt, text), ends)

    @property
    def tokens(self) -> int:
        """Of the whole prompt, as the model sees it."""
        return len(self.view.ends)

    def to(self, budget: int) -> Shortened:
        """At most so many tokens.

        Raises:
            BudgetError: what has to stay does not fit.
        """
        for classes in self._settings.choices:
            pruner = self._pruner(classes)
            if self._settings.strict or not classes:
                keep = pruner.run(budget)
                break
            if pruner.floor() <= budget:
                keep = pruner.run(budget)
                if pruner.strays(keep) <= MAX_STRAYS * budget:
                    break
        prompt = pruner.prompt(keep)
        let_go = tuple(name for name in self._settings.classes if name not in classes)
        return Shortened(prompt, self._count(prompt), let_go)

    def floor(self) -> int:
        """The fewest tokens that can be asked for."""
        strict = self._settings.strict
        return self._pruner(self._settings.classes if strict else ()).floor()

    def _pruner(self, classes: tuple[str, ...]) -> Pruner:
        if classes not in self._pruners:
            pieces = cut(self.prompt, self._protected.spans(classes))
            own = self.view.tokens_of(pieces)
            sizes = np.bincount(own[own >= 0], minlength=len(pieces)).astype(np.float64)
            order = rank.order(pieces, self._piece_scores(pieces, own, sizes), sizes)
            self._apart(pieces, order, sizes)
            texts = pieces.prompt.with_texts
            self._pruners[classes] = Pruner(
                pieces, order, sizes, lambda kept: self._count(texts(kept))
            )
        return self._pruners[classes]

    @cached_property
    def _pruners(self) -> dict[tuple[str, ...], Pruner]:
        return {}

    def _piece_scores(self, pieces: Pieces, own: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        if self._scores is None:
            return rank.lexical(pieces)
        inside = own >= 0
        total = np.bincount(own[inside], self._scores[inside], len(pieces))
        means: np.ndarray = total / np.maximum(sizes, 1.0)
        return means

    def _apart(self, pieces: Pieces, order: np.ndarray, sizes: np.ndarray) -> None:
        """Decide on sections that have a rate of their own: ∞ for what stays, −∞ for the rest."""
        for rate in {r for r in self._section_rates if r is not None}:
            of = np.array([r == rate for r in self._section_rates])[pieces.segment]
            within = np.flatnonzero(of & ~pieces.is_frame)
            within = within[np.argsort(-order[within], kind="stable")]
            kept = np.cumsum(sizes[within]) <= rate * sizes[of].sum() + 0.5
            stays = np.isinf(order[within]) | kept
            order[within] = np.where(stays, np.inf, -np.inf)
            if rate == 1:
                order[of] = np.inf

    def _count(self, prompt: Prompt) -> int:
        return len(self._tokenizer.encode(self._render(prompt), add_special_tokens=False))


@dataclass(frozen=True)
class Settings:
    """What is not to be lost.

    Attributes:
        protect: classes of spans (see ``protect.CLASSES``), ``all`` or ``none``, with commas
            between; ``auto``: all, but the last in order are let go where they do not fit.
        force: words that stay wherever they are, with commas between.
        section: ``NAME=RATE`` with commas between: see ``sections.rates``.
    """

    protect: str = "auto"
    force: str = ""
    section: str = ""

    def __post_init__(self) -> None:
        _ = self.classes, self.sections

    @property
    def strict(self) -> bool:
        """Whether the classes were asked for by name."""
        return self.protect != "auto"

    @property
    def classes(self) -> tuple[str, ...]:
        """Those to protect, the most important first."""
        if self.protect in ("auto", "all"):
            return protect.CLASSES
        return () if self.protect == "none" else protect.check(_listed(self.protect))

    @property
    def choices(self) -> list[tuple[str, ...]]:
        """What to try to protect, in turn."""
        return [self.classes[:n] for n in range(len(self.classes), -1, -1)]

    @property
    def forced(self) -> tuple[str, ...]:
        """Words that stay."""
        return tuple(_listed(self.force))

    @property
    def sections(self) -> dict[str, float]:
        """Rates of sections, by name."""
        return sections.rates(_listed(self.section))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _plain(prompt: Prompt) -> str:
    return "".join(segment.text for segment in prompt.segments)


def _starts(prompt: Prompt, text: str) -> np.ndarray:
    """Where each segment stands in the rendered text; a template may strip what is around it.

    Raises:
        ConfigError: the template rewrites the prompt.
    """
    starts, at = [], 0
    for number, message in enumerate(prompt.messages):
        content = message.content.strip()
        found = text.find(content, at)
        if found < 0:
            raise ConfigError(
                "the model's chat template rewrites the prompt, so its tokens cannot be ranked; "
                "use --ranking lexical with another model, or another target."
            )
        position = found - (len(message.content) - len(message.content.lstrip()))
        for segment in prompt.segments:
            if segment.message == number:
                starts.append(position)
                position += len(segment.text)
        at = found + len(content)
    return np.array(starts, dtype=np.int64)
