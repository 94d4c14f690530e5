"""The smallest artifact that is as faithful as was asked for: of all kinds, or a text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pcompiler import pipeline, progress
from pcompiler.errors import BudgetError, ConfigError, GateMissed
from pcompiler.ir import Fidelity
from pcompiler.pipeline import Compiled, Gates, Work
from pcompiler.store.db import Store
from pcompiler.targets import text

Candidate = tuple[str, dict[str, Any]]

# From the smallest up. By arithmetic, for 1,000 tokens of SmolLM2-135M: 0.5, 1.2, 1.8, 2.3, 3.5,
# 7.2, 12 and 23 MB.
CANDIDATES: tuple[Candidate, ...] = (
    ("hybrid", {"factor": 50.0, "rank": 4, "bits": 8}),
    ("hybrid", {"factor": 20.0, "rank": 8, "bits": 8}),
    ("hybrid", {"factor": 10.0, "rank": 8, "bits": 8}),
    ("hybrid", {"factor": 10.0, "rank": 16, "bits": 8}),
    ("hybrid", {"factor": 5.0, "rank": 16, "bits": 8}),
    ("hybrid", {"factor": 2.0, "rank": 16, "bits": 8}),
    ("kv", {"factor": None, "bits": 8}),
    ("kv", {"factor": None, "bits": 16}),
)
RATES = tuple(percent / 100 for percent in range(5, 100, 5))  # of a text


@dataclass(frozen=True)
class Trial:
    """One candidate that was built and measured on the held-out probes.

    Attributes:
        target: of it.
        settings: those that differ from the configuration.
        size_bytes: of its body.
        fidelity: as measured.
        met: whether it meets the gates.
    """

    target: str
    settings: dict[str, Any]
    size_bytes: int
    fidelity: Fidelity
    met: bool

    @property
    def name(self) -> str:
        """For tables: ``hybrid 10× rank 16, 8 bit``, ``text 0.45``."""
        if self.target == "text":
            rate = self.settings["rate"]
            return f"text {rate:.2f}" if rate else "text, nothing lost"
        factor, rank = self.settings.get("factor"), self.settings.get("rank")
        parts = [self.target, f"{factor:g}×" if factor else "exact"]
        parts += [f"rank {rank}"] if rank else []
        return f"{' '.join(parts)}, {self.settings['bits']} bit"


@dataclass(frozen=True)
class Found:
    """What a search returns.

    Attributes:
        compiled: the smallest artifact that meets the gates.
        trials: all that was tried, from the smallest candidate up.
    """

    compiled: Compiled
    trials: list[Trial]


def search(work: Work, store: Store, gates: Gates, target: str = "auto") -> Found:
    """Bisect the candidates: the larger, the more faithful, is taken for granted.

    What it returns has met the gates itself, on the held-out probes; larger ones that did on the
    way are not kept. Teacher, probes and answers are made once for all.

    Args:
        work: the prompt.
        store: where the artifact goes.
        gates: how faithful it has to be.
        target: auto: all kinds; text: rates of it.

    Raises:
        ConfigError: neither gate was asked for.
        GateMissed: not even the largest candidate meets them; nothing was stored.
    """
    if gates.min_agreement is None and gates.max_kl is None:
        raise ConfigError(
            f"target {target} needs to know how faithful: give min_agreement or max_kl."
        )
    candidates = _texts(work) if target == "text" else CANDIDATES
    return _Search(work, store, gates, candidates).run()


def _texts(work: Work) -> Sequence[Candidate]:
    """The rates that leave room for what has to stay; last the text of which nothing is lost."""
    settings = replace(work.config.targets, rate=0.5)
    settings = text.TARGET.resolved(settings)
    ranked = text.ranked(work.compilation, settings)
    tokens = len(work.compilation.context)
    rates = [rate for rate in RATES if rate > ranked.floor() / tokens]

    def leaves_something(rate: float) -> bool:
        try:
            ranked.to(round(rate * tokens))
        except BudgetError:  # blocks that stay whole, and none fits
            return False
        return True

    first = bisect_left(rates, True, key=leaves_something)
    return [*(("text", {"rate": r}) for r in rates[first:]), ("text", {"rate": None})]


class _Search:
    def __init__(
        self, work: Work, store: Store, gates: Gates, candidates: Sequence[Candidate]
    ) -> None:
        self._work, self._store, self._gates = work, store, gates
        self._candidates = candidates
        self._seen: dict[int, tuple[Trial, Compiled | None]] = {}

    def run(self) -> Found:
        """Bisect, then go up from there until one meets the gates."""
        low = None
        try:
            low, found = self._smallest()
        finally:  # also where it broke off, and nothing is to be kept
            self._clear(low)
        return Found(found, [self._seen[i][0] for i in sorted(self._seen)])

    def _clear(self, kept: int | None) -> None:
        for i, (_, other) in self._seen.items():
            if i != kept and other is not None and not other.cached:
                self._store.delete(other.id)

    def _smallest(self) -> tuple[int, Compiled]:
        low, high = 0, len(self._candidates) - 1
        with progress.bar(len(self._candidates).bit_length() - 1, "searching", "artifact") as shown:
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if self._try(middle)[0].met else (middle + 1, high)
                shown.update()
        while (found := self._try(low))[1] is None:
            low += 1
            if low == len(self._candidates):
                self._gates.check(found[0].fidelity, found[0].size_bytes)
        return low, found[1]

    def _try(self, number: int) -> tuple[Trial, Compiled | None]:
        if number not in self._seen:
            self._seen[number] = self._measured(*self._candidates[number])
        return self._seen[number]

    def _measured(self, target: str, settings: dict[str, Any]) -> tuple[Trial, Compiled | None]:
        other = self._work.with_targets(replace(self._work.config.targets, **settings))
        try:
            done = pipeline.compile_prompt(other, target, self._store, self._gates)
        except GateMissed as missed:
            if missed.measured is None or missed.size_bytes is None:
                raise
            return Trial(target, settings, missed.size_bytes, missed.measured, met=False), None
        header = done.header
        return Trial(target, settings, header.body_bytes, header.fidelity, met=True), done
