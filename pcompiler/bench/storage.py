"""A store and a bare RocksDB doing the same to the same records, in turn.

What bounds both: a put of 1 KB writes it once to the log, and memory could take 10 GB/s: 0.1 µs.
The rest is the way through the binding, the log's system call (1 µs) and the index. A put of ours
adds one hash (0.1 µs) and one copy of the record.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rocksdict as rocks

from pcompiler.bench import corpora
from pcompiler.bench.harness import BUCKETS, Histogram
from pcompiler.config import StoreConfig
from pcompiler.store.records import Records
from pcompiler.store.rocksdb import options, synced

FAMILY = "prompts"
RECORD_BYTES = 1_000
BATCH = 100
STRETCHES = 5  # parts of a run of single calls

Pair = tuple[bytes, bytes]


def text_records(data: Path | None, count: int, seed: int = 0) -> list[Pair]:
    """Real text in pieces of 1,000 bytes, each once, by the hash of what it holds.

    All kinds of text, in a seeded order; fewer than ``count`` where a machine has less.
    """
    pairs = sorted({hashed(piece): piece for piece in _pieces(data)}.items())
    random.Random(seed).shuffle(pairs)  # noqa: S311 - an order, no secret
    return pairs[:count]


def in_order(data: Path | None, count: int) -> list[Pair]:
    """The same pieces, by keys that have them in the order in which they were written."""
    numbered = enumerate(dict.fromkeys(_pieces(data)))
    return [(b"%032d" % number, piece) for number, piece in numbered][:count]


def hashed(piece: bytes) -> bytes:
    """A key as the store has them."""
    return hashlib.sha256(piece).hexdigest()[:32].encode()


def _pieces(data: Path | None) -> Iterator[bytes]:
    for corpus in corpora.load(data)[0]:
        for file in (*corpus.training, *corpus.measured):
            for start in range(0, len(file.data) - RECORD_BYTES, RECORD_BYTES):
                yield file.data[start : start + RECORD_BYTES]


class Ours:
    """The store's records."""

    name = "ours"

    def __init__(self, folder: Path, settings: StoreConfig) -> None:
        self._records = Records(folder, "write", settings)

    def put(self, pairs: Sequence[Pair]) -> None:
        """One write for each record."""
        put = self._records.put
        for key, value in pairs:
            put(FAMILY, key, value)

    def batches(self, pairs: Sequence[Pair]) -> None:
        """One write for each hundred records."""
        for start in range(0, len(pairs), BATCH):
            self._records.write((FAMILY, k, v) for k, v in pairs[start : start + BATCH])

    def get(self, pairs: Sequence[Pair]) -> None:
        """One read for each record."""
        get = self._records.get
        for key, _ in pairs:
            get(FAMILY, key)

    def many(self, pairs: Sequence[Pair]) -> None:
        """One read for each hundred records."""
        for start in range(0, len(pairs), BATCH):
            self._records.get_many(FAMILY, [key for key, _ in pairs[start : start + BATCH]])

    def ranges(self, pairs: Sequence[Pair]) -> None:
        """For each hundredth record, the hundred from its key on."""
        for key, _ in pairs[::BATCH]:
            for _, _ in zip(range(BATCH), self._records.scan(FAMILY, start=key), strict=False):
                pass

    def settle(self) -> None:
        """Everything into tables, at the bottom."""
        self._records.engine.compact()

    def close(self) -> None:
        """Let go of the files."""
        self._records.close()


class Raw:
    """RocksDB through rocksdict, with the same options, and nothing of ours."""

    name = "rocksdict"

    def __init__(self, folder: Path, settings: StoreConfig) -> None:
        self._db: Any = rocks.Rdict(str(folder), options(settings), {FAMILY: options(settings)})
        self._family: Any = self._db.get_column_family(FAMILY)
        self._family.set_write_options(synced(settings))
        self._sync = synced(settings)

    def put(self, pairs: Sequence[Pair]) -> None:
        """As ours; so are the others."""
        put = self._family.put
        for key, value in pairs:
            put(key, value)

    def batches(self, pairs: Sequence[Pair]) -> None:
        """One write for each hundred records."""
        for start in range(0, len(pairs), BATCH):
            batch = rocks.WriteBatch(raw_mode=True)
            column = self._db.get_column_family_handle(FAMILY)
            for key, value in pairs[start : start + BATCH]:
                batch.put(key, value, column)
            self._db.write(batch, self._sync)

    def get(self, pairs: Sequence[Pair]) -> None:
        """One read for each record."""
        get = self._family.get
        for key, _ in pairs:
            get(key)

    def many(self, pairs: Sequence[Pair]) -> None:
        """One read for each hundred records."""
        for start in range(0, len(pairs), BATCH):
            self._family.get([key for key, _ in pairs[start : start + BATCH]])

    def ranges(self, pairs: Sequence[Pair]) -> None:
        """For each hundredth record, the hundred from its key on."""
        for key, _ in pairs[::BATCH]:
            cursor = self._family.iter()
            cursor.seek(key)
            for _ in range(BATCH):
                if not cursor.valid():
                    break
                cursor.key(), cursor.value()
                cursor.next()

    def settle(self) -> None:
        """Everything into tables, at the bottom."""
        thorough = rocks.CompactOptions()
        thorough.set_bottommost_level_compaction(rocks.BottommostLevelCompaction.force_optimized())
        self._family.flush()
        self._family.compact_range(None, None, thorough)

    def close(self) -> None:
        """Let go of the files."""
        self._family = None
        self._db.close()


@dataclass(frozen=True)
class Latencies:
    """Seconds of single calls.

    Attributes:
        mean: of all calls.
        p50: half took no longer.
        p99: 99 of 100 took no longer.
        stretches: the same of a fifth of the calls each, in turn: how they vary within a run.
        histogram: of all calls.
    """

    mean: float
    p50: float
    p99: float
    stretches: tuple[Latencies, ...] = ()
    histogram: Histogram = ()


def latencies(call: Callable[[Sequence[Pair]], None], parts: Iterator[list[Pair]]) -> Latencies:
    """Time a call on each part of the records, one by one."""
    clock = time.perf_counter_ns
    taken = []
    for part in parts:
        before = clock()
        call(part)
        taken.append((clock() - before) / 1e9)
    size = max(1, len(taken) // STRETCHES)
    each = (taken[at : at + size] for at in range(0, size * STRETCHES, size))
    stretches = tuple(_summary(some) for some in each if some)
    return replace(_summary(taken), stretches=stretches, histogram=_histogram(taken))


def _histogram(taken: Sequence[float]) -> Histogram:
    """Calls by logarithm; no call is faster than the clock's nanosecond."""
    found = Counter(math.floor(BUCKETS * math.log10(max(one, 1e-9))) for one in taken)
    return tuple((10 ** (bucket / BUCKETS), found[bucket]) for bucket in sorted(found))


def _summary(taken: Sequence[float]) -> Latencies:
    ordered = sorted(taken)
    at = len(ordered) - 1
    return Latencies(sum(ordered) / len(ordered), ordered[at // 2], ordered[round(at * 0.99)])


def parts(pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """The records in parts of a size."""
    for start in range(0, len(pairs) - size + 1, size):
        yield list(pairs[start : start + size])


def disk_bytes(folder: Path) -> int:
    """Bytes of all tables."""
    return sum(path.stat().st_size for path in folder.glob("*.sst"))
