"""``--target auto``: the smallest artifact that is as faithful as was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pcompiler import pipeline, progress
from pcompiler.errors import ConfigError, GateMissed
from pcompiler.ir import Fidelity
from pcompiler.pipeline import Compiled, Gates, Work
from pcompiler.store.db import Store

# From the smallest up. By arithmetic, for 1,000 tokens of SmolLM2-135M: 0.5, 1.2, 1.8, 2.3, 3.5,
# 7.2, 12 and 23 MB.
CANDIDATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("hybrid", {"factor": 50.0, "rank": 4, "bits": 8}),
    ("hybrid", {"factor": 20.0, "rank": 8, "bits": 8}),
    ("hybrid", {"factor": 10.0, "rank": 8, "bits": 8}),
    ("hybrid", {"factor": 10.0, "rank": 16, "bits": 8}),
    ("hybrid", {"factor": 5.0, "rank": 16, "bits": 8}),
    ("hybrid", {"factor": 2.0, "rank": 16, "bits": 8}),
    ("kv", {"factor": None, "bits": 8}),
    ("kv", {"factor": None, "bits": 16}),
)


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
        """For tables: ``hybrid 10× rank 16, 8 bit``."""
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


def search(work: Work, store: Store, gates: Gates) -> Found:
    """Bisect the candidates: the larger, the more faithful, is taken for granted.

    What it returns has met the gates itself, on the held-out probes; larger ones that did on the
    way are not kept. Teacher, probes and answers are made once for all.

    Raises:
        ConfigError: neither gate was asked for.
        GateMissed: not even the exact cache meets them; nothing was stored.
    """
    if gates.min_agreement is None and gates.max_kl is None:
        raise ConfigError("target auto needs to know how faithful: give min_agreement or max_kl.")
    seen: dict[int, tuple[Trial, Compiled | None]] = {}
    low, high = 0, len(CANDIDATES) - 1
    with progress.bar(len(CANDIDATES).bit_length() - 1, "searching", "artifact") as shown:
        while low < high:
            middle = (low + high) // 2
            seen[middle] = _try(work, store, gates, middle)
            low, high = (low, middle) if seen[middle][0].met else (middle + 1, high)
            shown.update()
    while (found := (seen[low] if low in seen else _try(work, store, gates, low)))[1] is None:
        seen[low], low = found, low + 1
        if low == len(CANDIDATES):
            gates.check(found[0].fidelity)
    seen[low] = found
    trials = [seen[i][0] for i in sorted(seen)]
    for i, (_, other) in seen.items():
        if i != low and other is not None and not other.cached:
            store.delete(other.id)
    assert found[1] is not None
    return Found(found[1], trials)


def _try(work: Work, store: Store, gates: Gates, number: int) -> tuple[Trial, Compiled | None]:
    target, settings = CANDIDATES[number]
    other = work.with_targets(replace(work.config.targets, **settings))
    try:
        done = pipeline.compile_prompt(other, target, store, gates)
    except GateMissed as missed:
        if missed.measured is None or missed.size_bytes is None:
            raise
        return Trial(target, settings, missed.size_bytes, missed.measured, met=False), None
    header = done.header
    return Trial(target, settings, header.body_bytes, header.fidelity, met=True), done
