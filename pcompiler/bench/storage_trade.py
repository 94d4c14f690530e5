"""What smaller files cost: zstd's level, the size of blocks and of dictionaries at the bottom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pcompiler import progress
from pcompiler.bench.storage import Ours, Pair, disk_bytes
from pcompiler.config import StoreConfig

LEVELS = (3, 9, 19)
BLOCKS_KB = (4, 16, 64)
DICTIONARIES_KB = (0, 16, 64)
READS = 2_000


@dataclass(frozen=True)
class Trade:
    """One setting of the files, and what it comes to.

    Attributes:
        level: of zstd at the bottom.
        block_kb: read and compressed at once.
        dictionary_kb: of each table's dictionary, at most.
        saved: share of the records' bytes that is not on the disk, keys and indices included.
        compaction_mb_per_s: 10^6 bytes of records a second of CPU time, written to the bottom.
        get_s: mean seconds to get a record by chance, blocks not in RocksDB's cache.
    """

    level: int
    block_kb: int
    dictionary_kb: int
    saved: float
    compaction_mb_per_s: float
    get_s: float

    @property
    def name(self) -> str:
        """For tables."""
        with_dictionary = f", dictionary {self.dictionary_kb} KB" if self.dictionary_kb else ""
        return f"level {self.level}, blocks {self.block_kb} KB{with_dictionary}"


def grid(quick: bool) -> list[tuple[int, int, int]]:
    """Levels, blocks and dictionaries that are measured."""
    if quick:
        return [(3, 16, 0), (9, 64, 64)]
    return [(level, b, d) for level in LEVELS for b in BLOCKS_KB for d in DICTIONARIES_KB]


def trades(pairs: Sequence[Pair], folder: Path, quick: bool) -> list[Trade]:
    """All settings, each on a store of its own in ``folder``."""
    wanted = grid(quick)
    found = []
    with progress.bar(len(wanted), "files", "setting") as shown:
        for number, (level, block_kb, dictionary_kb) in enumerate(wanted):
            settings = replace(
                StoreConfig(),
                bottom_level=level,
                block_kb=block_kb,
                bottom_dictionary_kb=dictionary_kb,
                cache_mb=1,
            )
            found.append(_trade(pairs, folder / str(number), settings))
            shown.update()
    return found


def _trade(pairs: Sequence[Pair], folder: Path, settings: StoreConfig) -> Trade:
    store = Ours(folder, settings)
    size = sum(len(key) + len(value) for key, value in pairs)
    try:
        store.batches(pairs)
        before = time.process_time()
        store.settle()
        compaction_s = time.process_time() - before
        wall = time.perf_counter()
        chosen = pairs[:: max(1, len(pairs) // READS)]
        store.get(chosen)
        get_s = (time.perf_counter() - wall) / len(chosen)
    finally:
        store.close()
    return Trade(
        settings.bottom_level,
        settings.block_kb,
        settings.bottom_dictionary_kb,
        1 - disk_bytes(folder) / size,
        size / compaction_s / 1e6,
        get_s,
    )
