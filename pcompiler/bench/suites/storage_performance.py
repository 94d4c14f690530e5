"""The store beside a bare RocksDB: records of 1 KB of real text, one at a time and in hundreds.

Latencies are of single calls; throughputs are raced, ours and the other's rounds in turn. Gets
are of records that are in tables and in RocksDB's cache.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pcompiler.bench import reference, storage_trade
from pcompiler.bench.harness import Figure, Setting
from pcompiler.bench.race import Speed, race
from pcompiler.bench.storage import (
    BATCH,
    RECORD_BYTES,
    Latencies,
    Ours,
    Pair,
    Raw,
    in_order,
    latencies,
    parts,
    text_records,
)
from pcompiler.bench.storage_listing import listing
from pcompiler.bench.storage_metered import metered
from pcompiler.config import StoreConfig

RECORDS, QUICK_RECORDS = 20_000, 3_000
SYNCED = 200  # writes that wait for the disk
TAIL_TOLERANCE = 1.5  # on a busy machine a p99 is of the scheduler more than of ours
DISK_TOLERANCE = 0.6  # others wait for the same disk
LAP_S, QUICK_LAP_S = 0.3, 0.05
_figure = partial(Figure, "storage_performance")


@dataclass(frozen=True)
class _Kind:
    """An operation: its name, the method that does it, how many records a call takes."""

    name: str
    method: str
    records: int
    reference_s: float
    reference_per_s: float
    share_goal: float | None = None

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method not in ("put", "batches")


_KINDS = (
    _Kind("put", "put", 1, reference.PUT_S, reference.PUTS_PER_S, reference.PUT_SHARE_GOAL),
    _Kind(
        "batch of 100", "batches", BATCH, reference.BATCH_S, reference.BATCHED_PER_S,
        reference.PUT_SHARE_GOAL,
    ),
    _Kind("get, hot", "get", 1, reference.GET_S, reference.GETS_PER_S, reference.GET_SHARE_GOAL),
    _Kind(
        "get 100 at once", "many", BATCH, BATCH * reference.GET_S, reference.GETS_PER_S,
        reference.GET_SHARE_GOAL,
    ),
    _Kind("range of 100", "ranges", BATCH, reference.RANGE_S, reference.RANGED_PER_S),
)  # fmt: skip


def run(setting: Setting) -> list[Figure]:
    """All figures of the suite."""
    pairs = text_records(setting.data, QUICK_RECORDS if setting.quick else RECORDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = Ours(folder / "ours", StoreConfig())
        raw = Raw(folder / "raw", StoreConfig())
        try:
            figures = _operations(setting, pairs, ours, raw)
        finally:
            ours.close()
            raw.close()
        figures += _synced(pairs[:SYNCED], folder)
        figures += listing(setting, folder / "listing")
        figures += _files(setting, pairs, folder)
    return figures


def _operations(setting: Setting, pairs: Sequence[Pair], ours: Ours, raw: Raw) -> list[Figure]:
    figures: list[Figure] = []
    means: list[float] = []
    for kind in _KINDS:
        mine, theirs = (getattr(store, kind.method) for store in (ours, raw))
        if kind.reads:  # hot: in RocksDB's cache
            mine(pairs)
            theirs(pairs)
        one = latencies(mine, parts(pairs, kind.records))
        other = latencies(theirs, parts(pairs, kind.records))
        size = RECORD_BYTES * len(pairs)
        lap_s = QUICK_LAP_S if setting.quick else LAP_S
        speed = race(partial(mine, pairs), partial(theirs, pairs), size, setting.repeat, lap_s)
        figures += _of_kind(kind, one, other, speed)
        means.append(one.mean / kind.records)
        if kind.method == "batches":  # what follows reads from tables
            ours.settle()
            raw.settle()
    figures += metered(setting, ours, pairs, QUICK_LAP_S if setting.quick else LAP_S)
    worst = max(means)
    figures.append(
        _figure("mean of the slowest operation, a record", worst, "s", "lower",
                reference.STORAGE_MEAN_S, goal=reference.STORAGE_MEAN_GOAL_S)
    )  # fmt: skip
    return figures


def _of_kind(kind: _Kind, one: Latencies, other: Latencies, speed: Speed) -> list[Figure]:
    per_s = speed.mb_per_s * 1e6 / RECORD_BYTES
    raw_per_s = speed.other_mb_per_s * 1e6 / RECORD_BYTES
    share, more_us = speed.share * 100, 1e6 / per_s - 1e6 / raw_per_s
    goal = kind.share_goal and kind.share_goal * 100
    return [
        _figure(f"{kind.name}, mean", one.mean, "s", "lower", kind.reference_s, other.mean,
                samples=tuple(part.mean for part in one.stretches),
                note=f"rocksdict alone takes {other.mean * 1e3:.2g} ms in this run"),
        _figure(f"{kind.name}, p50", one.p50, "s", "lower", None, other.p50,
                samples=tuple(part.p50 for part in one.stretches),
                histogram=one.histogram, baseline_histogram=other.histogram),
        _figure(f"{kind.name}, p99", one.p99, "s", "lower", None, other.p99,
                samples=tuple(part.p99 for part in one.stretches), tolerance=TAIL_TOLERANCE),
        _figure(
            f"{kind.name}, records", per_s, "1/s", "higher", kind.reference_per_s, raw_per_s,
            samples=tuple(rate * 1e6 / RECORD_BYTES for rate in speed.rates),
        ),
        _figure(
            f"{kind.name}, share of rocksdict's speed", share, "%", "higher", goal=goal,
            spread=speed.spread * 100, samples=tuple(share * 100 for share in speed.shares),
            note=f"a checksum, a copy and a Python call more a record: {more_us:.2g} µs",
        ),
    ]  # fmt: skip


def _synced(pairs: Sequence[Pair], folder: Path) -> list[Figure]:
    """A write that waits for the disk, beside the bare system call on the same disk."""
    import os

    store = Ours(folder / "synced", replace(StoreConfig(), durability="power"))
    try:
        ours = latencies(store.put, parts(pairs, 1))
    finally:
        store.close()
    handle = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    waits = []
    try:
        for _, value in pairs:
            before = time.perf_counter()
            os.write(handle, value)
            os.fdatasync(handle) if hasattr(os, "fdatasync") else os.fsync(handle)
            waits.append(time.perf_counter() - before)
    finally:
        os.close(handle)
    floor = sorted(waits)[len(waits) // 2]
    name = "put that a power cut does not lose, p50"
    rounds = tuple(part.p50 for part in ours.stretches)
    figure = _figure(name, ours.p50, "s", "lower", None, floor, samples=rounds)
    return [replace(figure, tolerance=DISK_TOLERANCE)]


def _files(setting: Setting, pairs: Sequence[Pair], folder: Path) -> list[Figure]:
    """What is saved on the disk, by setting, and what it costs."""
    orders: tuple[tuple[str, Callable[[], Sequence[Pair]]], ...] = (
        ("", lambda: pairs),
        (" (keys in the text's order)", lambda: in_order(setting.data, len(pairs))),
    )
    figures: list[Figure] = []
    for label, texts in orders:
        found = storage_trade.trades(texts(), folder / f"files{bool(label)}", setting.quick)
        best = max(trade.saved for trade in found)
        for trade in found:
            name = f"{trade.name}{label}"
            figures += [
                _figure(
                    f"saved on disk, {name}", trade.saved * 100, "%", "higher",
                    reference.STORAGE_SAVED * 100 if trade.saved == best else None,
                    note="pieces of 1 KB next to strangers, as hashed keys have them, share less "
                    "than a text's own" if not label else "pieces of 1 KB, keys included",
                ),
                _figure(f"… compaction, {name}", trade.compaction_mb_per_s, "MB/cpu s", "higher"),
                _figure(f"… get outside RocksDB's cache, {name}", trade.get_s, "s", "lower"),
            ]  # fmt: skip
    return figures
