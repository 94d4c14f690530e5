"""The passes that lose something, in order: protect, cut, rank, prune to a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pcompiler import meter
from pcompiler.config import TargetConfig
from pcompiler.errors import BudgetError
from pcompiler.ir import Prompt
from pcompiler.passes import deduplicate, normalize, protect, rank, seams, sections
from pcompiler.passes.count import Counter, Render, View, plain, starts
from pcompiler.passes.pieces import Pieces, cut, protecting
from pcompiler.passes.protect import Span
from pcompiler.passes.prune import Pruner
from pcompiler.passes.words import Words

# Of the budget, for protected spans that stand alone: "39 EUR" without its sentence says nothing.
MAX_STRAYS = 0.05
LEAST = 16  # tokens: of a smaller budget it is no wonder that nothing is left
_RECOUNT = 0.003  # of the budget: what segments counted one by one may be off
_RECOUNTS = 4


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


class Shortener:
    """A prompt that is ranked once and shortened to any number of tokens.

    Args:
        prompt: what is shortened.
        tokenizer: of the library tokenizers, or the words of one that are known already.
        settings: what to protect, force and treat apart.
        repeated: spans of each segment that say nothing new and go first; see ``deduplicate``.
        render: a prompt → what the model sees of it; by default its texts end to end.
        scores: (tokens,) how much each token of the rendered prompt matters; none: lexical.
    """

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Any,  # noqa: ANN401 - the library has no stubs
        settings: Settings,
        repeated: Sequence[Sequence[Span]] | None = None,
        render: Render | None = None,
        scores: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        self.prompt, self._settings = prompt, settings
        self._words = tokenizer if isinstance(tokenizer, Words) else Words(tokenizer)
        self._repeated = repeated or [[] for _ in prompt.segments]
        self._render = render or plain
        self._scores = None if scores is None else np.asarray(scores, dtype=np.float64)
        classes = protect.check({*settings.classes, *protect.UNTORN})
        self._protected = protect.find(prompt, classes, settings.forced)
        self._stays: dict[tuple[str, ...], np.ndarray] = {}
        self._cuts: dict[tuple[str, ...], tuple[Pieces, np.ndarray, np.ndarray]] = {}
        self._pruners: dict[tuple[str, ...], Pruner] = {}
        self._runs: dict[tuple[tuple[str, ...], int, int], np.ndarray] = {}
        self._section_rates = sections.of_segments(prompt, settings.sections)

    @cached_property
    def view(self) -> View:
        """The whole prompt, counted."""
        text = self._render(self.prompt)
        return View(text, starts(self.prompt, text), self._words.ends(text))

    @property
    def tokens(self) -> int:
        """Of the whole prompt, as the model sees it."""
        return len(self.view.ends)

    @meter.timed("pass_seconds", step="shorten")
    def to(self, budget: int) -> Shortened:
        """At most so many tokens.

        Raises:
            BudgetError: what has to stay does not fit, or nothing but whole blocks could be kept
                and none of them fits.
        """
        every = self._settings.classes
        classes = every if self._settings.strict else every[: self._protectable(budget)]
        found: list[Shortened] = []
        for _ in range(_RECOUNTS):
            prompt = self._pruner(classes).prompt(self._kept(classes, budget))
            found.append(Shortened(prompt, self._counter.exact(prompt), every[len(classes) :]))
            tokens = found[-1].tokens
            if 0 <= budget - tokens <= _RECOUNT * budget or tokens == self.tokens:
                break
        within = [one for one in found if one.tokens <= budget]
        best = max(within or found[-1:], key=lambda one: one.tokens)
        if budget >= LEAST and _is_empty(best.prompt) and not _is_empty(self.prompt):
            raise BudgetError(
                f"of {budget} tokens nothing can be made: the prompt is of parts that stay whole, "
                "such as a block of code, and none of them fits. Raise the rate, or put a blank "
                "line where a long block may be cut."
            )
        meter.count("pass_tokens", self.tokens, side="in")
        meter.count("pass_tokens", best.tokens, side="out")
        return best

    def _protectable(self, budget: int) -> int:
        """How many classes can be protected; the search begins where a sketch of it ends."""
        every = self._settings.classes
        count = self._sketched(budget)
        while count < len(every) and self._fits(every[: count + 1], budget):
            count += 1
        while count and not self._fits(every[:count], budget):
            count -= 1
        return count

    def _sketched(self, budget: int) -> int:
        """The most that can be protected as far as sizes tell, with nothing cut or counted anew."""
        every = self._settings.classes
        pieces, scores, sizes = self._measured(every)
        for count in range(len(every), 0, -1):
            sketched = protecting(pieces, self._spans(every[:count]), self._seams)
            if rank.strays(sketched, scores, sizes, budget) <= MAX_STRAYS * budget:
                return count
        return 0

    def _fits(self, classes: tuple[str, ...], budget: int) -> bool:
        """Whether these classes can be protected without many spans standing alone."""
        pruner = self._pruner(classes)
        if not classes or pruner.floor() > budget:
            return not classes
        return pruner.strays(self._kept(classes, budget)) <= MAX_STRAYS * budget

    def _kept(self, classes: tuple[str, ...], budget: int) -> np.ndarray:
        """What is kept of a budget, remembered until counting is set right."""
        key = classes, budget, self._counter.more
        if key not in self._runs:
            self._runs[key] = self._pruner(classes).run(budget)
        return self._runs[key]

    def floor(self) -> int:
        """The fewest tokens that can be asked for."""
        strict = self._settings.strict
        return self._pruner(self._settings.classes if strict else ()).floor()

    def _pruner(self, classes: tuple[str, ...]) -> Pruner:
        if classes not in self._pruners:
            pieces, scores, sizes = self._measured(classes)
            order = rank.order(pieces, scores, sizes)
            self._apart(pieces, order, sizes)
            self._pruners[classes] = Pruner(pieces, order, sizes, self._counter.tokens)
        return self._pruners[classes]

    def _measured(self, classes: tuple[str, ...]) -> tuple[Pieces, np.ndarray, np.ndarray]:
        """Pieces, (n,) how much each matters, (n,) its tokens."""
        if classes not in self._cuts:
            pieces = cut(self.prompt, self._spans(classes), self._repeated, self._seams)
            own = self.view.tokens_of(pieces)
            sizes = np.bincount(own[own >= 0], minlength=len(pieces)).astype(np.float64)
            self._cuts[classes] = pieces, self._piece_scores(pieces, own, sizes), sizes
        return self._cuts[classes]

    def _spans(self, classes: tuple[str, ...]) -> np.ndarray:
        """(k, 2) what stays, from the prompt's beginning."""
        if classes not in self._stays:
            found = np.concatenate([self._placed[name] for name in ("", *classes)])
            self._stays[classes] = seams.joined(found, self._seams.offsets)
        return self._stays[classes]

    @cached_property
    def _placed(self) -> dict[str, np.ndarray]:
        """Of each class what it found, and under no name what always stays."""
        found = {"": self._protected.always, **self._protected.by_class}
        return {name: seams.placed(of, self._seams.offsets, 2) for name, of in found.items()}

    @cached_property
    def _seams(self) -> seams.Seams:
        # Whether they are protected or not, numbers and addresses are never torn.
        return seams.find(self.prompt, self._protected.spans(protect.UNTORN))

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

    @cached_property
    def _counter(self) -> Counter:
        return Counter(self.prompt, self._words, self._render, self.tokens)


def _is_empty(prompt: Prompt) -> bool:
    return not any(message.content.strip() for message in prompt.messages)


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
    def forced(self) -> tuple[str, ...]:
        """Words that stay."""
        return tuple(_listed(self.force))

    @property
    def sections(self) -> dict[str, float]:
        """Rates of sections, by name."""
        return sections.rates(_listed(self.section))


def without_model(
    prompt: Prompt,
    tokenizer: Any,  # noqa: ANN401
    config: TargetConfig,
) -> tuple[Shortened, int]:
    """All passes, ranked by words alone: fast enough to stand in the way of every request.

    Args:
        prompt: what is shortened.
        tokenizer: of the library tokenizers, or ``Words`` of one, which remember what earlier
            prompts had; tokens are counted without a chat template.
        config: ``rate`` or ``target_tokens``; ``protect``, ``force`` and ``section``.

    Returns:
        What is left, and the tokens of the whole prompt.

    Raises:
        BudgetError: what has to stay takes more.
        ConfigError: a section or class that there is not.
    """
    settings = Settings(config.protect, config.force, config.section)
    words = tokenizer if isinstance(tokenizer, Words) else Words(tokenizer)
    (whole,) = words.counts([plain(prompt)])
    tidy = normalize.run(prompt)
    find = deduplicate.exact if config.duplicates == "exact" else deduplicate.near
    budget = config.target_tokens or round((config.rate or 1.0) * whole)
    return Shortener(tidy, words, settings, find(tidy)).to(budget), whole


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
