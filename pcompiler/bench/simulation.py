"""A service's prompts, by the hundred thousand, compiled without a language model.

What bounds it, per prompt of 700 bytes: one that is known takes two hashes of it and one look-up
(10 µs); a new one 150 tokens' embedding (200 µs), parsing and passes (60 µs) and three records of
1.4 KB in all. So a million of which one in twenty is new are some 30 CPU seconds, and a million new
ones 300: the processor bounds it, neither memory (1 ms/MB read twice) nor the disk (1.4 GB).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pcompiler import progress
from pcompiler.bench import traffic
from pcompiler.bench.held import rss_bytes
from pcompiler.bench.latency_summary import Summary, summary
from pcompiler.bench.slope import FEWEST, Slope, slope
from pcompiler.codec import dictionary
from pcompiler.config import StoreConfig
from pcompiler.draft import Drafter
from pcompiler.embed import cache
from pcompiler.embed.base import Provider
from pcompiler.embed.static import Static
from pcompiler.scale.base import Entry, Outcome
from pcompiler.scale.drafts import Drafts
from pcompiler.scale.local import Local
from pcompiler.store.db import Store

# Buffers that are small beside what is stored, so that memory shows its level within the run.
SETTINGS = StoreConfig(write_buffer_mb=16, cache_mb=64)
LEARNT = 4_000  # prompts of another seed, for the store's dictionary
CHECKED = 2_000  # stored prompts that are read again and compared, at most
SAMPLES = 400  # of memory
WARM_UP = 0.5  # of the samples: buffers and caches are filling
FLAT = 0.05  # of memory
_UNKNOWN, _KNOWN, _NEW = 0, 1, 2


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Attributes:
        prompts: how many come.
        distinct_factor: times the usual share of different ones (1 in 20).
        processes: that compile.
        seed: of the draw.
    """

    prompts: int = 1_000_000
    distinct_factor: float = 1.0
    processes: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """Memory at a moment."""

    prompts: int
    seconds: float
    rss: int


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        texts: where they are from.
        redundancy: of the prompts, counted.
        seconds: wall time from the first prompt until the store is closed, all written.
        cpu_s: of all processes in that time.
        made_ready_s: wall time before it: table, workers, the store's dictionary.
        every: latencies of all prompts; one is from when it is taken until it is acknowledged.
        known: of those found in the store, or on their way there.
        new: of those that were compiled.
        failures: how many ended with which error.
        wrong: what was acknowledged and is not in the store as it should be, or never told of.
        checked: prompts that were read again and compared.
        bytes_in: of all prompts.
        distinct_bytes: of the different ones.
        stored_bytes: files of the closed store.
        compacted_bytes: the same once RocksDB has merged them.
        stages: seconds in this process by stage.
        memory: resident bytes of all processes over time.
        growth: of memory, bytes a prompt, after warm-up; none: too few samples.
    """

    texts: str
    redundancy: traffic.Redundancy
    seconds: float
    cpu_s: float
    made_ready_s: float
    every: Summary
    known: Summary | None
    new: Summary | None
    failures: dict[str, int]
    wrong: int
    checked: int
    bytes_in: int
    distinct_bytes: int
    stored_bytes: int
    compacted_bytes: int
    stages: dict[str, float]
    memory: tuple[Sample, ...] = field(repr=False)
    growth: Slope | None = None

    @property
    def again(self) -> float | None:
        """By which share memory would grow in as many prompts again, at worst; none: not known."""
        if self.growth is None:
            return None
        return self.growth.high * self.every.count / max(s.rss for s in self.memory)

    @property
    def is_flat(self) -> bool:
        """Whether that is next to nothing."""
        return self.again is not None and self.again < FLAT

    @property
    def failed(self) -> int:
        """Prompts that were not compiled, or not stored as they should be."""
        return sum(self.failures.values()) + self.wrong


def simulate(
    plan: Plan, folder: Path, data: Path | None = None, provider: Provider | None = None
) -> Result:
    """Run it in an empty folder, which is not cleaned up.

    Args:
        plan: what comes.
        folder: of the store.
        data: folder with real prompts; see ``traffic.texts``.
        provider: of the vectors, where one process compiles; the static table.

    Raises:
        InputError: more different prompts than the texts allow for, or no such folder.
        StoreUnavailable: the disk is full.
    """
    made_of = traffic.texts(data)
    ranks, drawn = draw(plan, made_of)
    provider = provider or Static.load()
    ready = time.perf_counter()
    with Store(folder, settings=SETTINGS) as store:
        earlier = traffic.draws(ranks, LEARNT, plan.seed + 1)
        learnt = {prompt.encode() for prompt in traffic.stream(made_of, earlier)}
        store.add_dictionary(dictionary.train(learnt))
        keeper = Drafts(store, provider)
        with Local(keeper, plan.processes) as engine:
            began, cpu = time.perf_counter(), _cpu_s()
            run = _Run(plan.prompts, engine)
            run.take(engine.run(map(Entry, traffic.stream(made_of, drawn))))
            stages = {**keeper.drafter.clock.laps, "found": keeper.found_s}
    seconds, cpu_s = time.perf_counter() - began, _cpu_s() - cpu
    stored = _file_bytes(folder)
    check = _Check(folder, made_of, Drafter(provider), provider)
    wrong, checked = check.run(np.unique(drawn[run.kinds != _UNKNOWN]))
    untold = int((run.kinds == _UNKNOWN).sum()) - sum(run.failures.values())
    with Store(folder, settings=SETTINGS) as store:
        store.records.engine.compact()
    sizes = {int(r): len(made_of.prompt(int(r)).encode()) for r in np.unique(drawn)}
    return Result(
        texts=made_of.source,
        redundancy=traffic.redundancy(drawn, ranks),
        seconds=seconds,
        cpu_s=cpu_s,
        made_ready_s=began - ready,
        every=summary(run.latencies),
        known=run.of(_KNOWN),
        new=run.of(_NEW),
        failures=dict(run.failures),
        wrong=wrong + untold,
        checked=checked,
        bytes_in=sum(sizes[int(rank)] for rank in drawn),
        distinct_bytes=sum(sizes.values()),
        stored_bytes=stored,
        compacted_bytes=_file_bytes(folder),
        stages=stages,
        memory=tuple(run.memory),
        growth=_growth(run.memory),
    )


def draw(plan: Plan, made_of: traffic.Texts) -> tuple[int, traffic.Ranks]:
    """From how many prompts, and which. Raises InputError: more than the texts allow for."""
    wanted = traffic.DISTINCT_SHARE * plan.distinct_factor * plan.prompts
    ranks = traffic.ranks_for(wanted, plan.prompts, made_of.combinations)
    return ranks, traffic.draws(ranks, plan.prompts, plan.seed)


class _Run:
    """Takes outcomes down; all room is taken before the first, so that it is not seen to grow."""

    def __init__(self, prompts: int, engine: Local) -> None:
        self._engine, self._every = engine, max(1, prompts // SAMPLES)
        self.latencies = np.full(prompts, np.nan, np.float32)
        self.kinds = np.full(prompts, _UNKNOWN, np.uint8)
        self.failures: Counter[str] = Counter()
        self.memory: list[Sample] = []

    def take(self, outcomes: Iterator[Outcome]) -> None:
        """Until the last."""
        began, workers = time.perf_counter(), self._engine.pids
        latencies, kinds = self.latencies, self.kinds
        with progress.bar(len(kinds), "simulating", "prompt") as shown:
            for done, outcome in enumerate(outcomes, 1):
                latencies[outcome.number] = outcome.seconds
                if outcome.error is None:
                    kinds[outcome.number] = _KNOWN if outcome.known else _NEW
                else:
                    self.failures[outcome.error] += 1
                if done % self._every == 0:
                    taken = time.perf_counter() - began
                    self.memory.append(Sample(done, taken, rss_bytes(workers)))
                    shown.update(self._every)

    def of(self, kind: int) -> Summary | None:
        """Latencies of one kind, if there are any."""
        chosen = self.latencies[self.kinds == kind]
        return summary(chosen) if len(chosen) else None


class _Check:
    """Reads the store again: what was acknowledged has to be there, and to be what is made."""

    def __init__(
        self, folder: Path, made_of: traffic.Texts, drafter: Drafter, provider: Provider
    ) -> None:
        self._folder, self._made_of, self._drafter = folder, made_of, drafter
        self._width = provider.width

    def run(self, acknowledged: traffic.Ranks) -> tuple[int, int]:
        """How many are wrong, and how many were looked at besides being counted."""
        pick, size = random.Random(0), min(CHECKED, len(acknowledged))  # noqa: S311 - no secret
        some = pick.sample([*map(int, acknowledged)], size)
        with Store(self._folder, "read", SETTINGS) as store:
            there = sum(1 for _ in store.drafts.all())
            wrong = sum(not self._whole(store, self._made_of.prompt(rank)) for rank in some)
        missing = max(0, len(acknowledged) - there)
        return wrong + missing, len(some)

    def _whole(self, store: Store, source: str) -> bool:
        made = self._drafter.make(source)
        if not store.drafts.has(made.id) or store.source(made.prompt_hash) != source:
            return False
        (record,) = store.vectors([made.vector_key])
        kept = None if record is None else cache.decode(record, self._width)
        fresh = cache.decode(made.vector, self._width)
        if kept is None or fresh is None or not np.allclose(kept, fresh, atol=1e-3):
            return False
        said = store.drafts.get(made.id)
        return said == made.messages if made.messages else said[0].content == source


def _growth(memory: list[Sample]) -> Slope | None:
    settled = memory[int(len(memory) * WARM_UP) :]
    if len(settled) < FEWEST:
        return None
    return slope([s.prompts for s in settled], [s.rss for s in settled])


def _cpu_s() -> float:
    """Of this process, and of those that it has waited for."""
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def _file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
