"""Threads that write and read, processes that follow, for minutes; nothing may be lost.

Every writing thread has keys of its own, which it puts, gets and deletes in a seeded order, and
remembers what was acknowledged. Followers in processes of their own catch up and read: what they
get must be whole, and a thread's counter may not go back. In the end the store is opened anew,
compared with what was acknowledged, and checked.

    python benches/storage_stress_test.py --minutes 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from pcompiler import progress
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.storage import FAMILY, hashed, text_records
from pcompiler.config import DURABILITIES, StoreConfig
from pcompiler.errors import DamageError
from pcompiler.store.records import Records
from pcompiler.store.rocksdb import uncached
from pcompiler.store.salvage import Damage, Found, read_around
from pcompiler.store.seal import unseal
from pcompiler.table import render, seconds

KEYS = 5_000  # of each thread
READS, WRITES = 0.5, 0.45  # shares of the operations; the rest are batches of a hundred
BATCH = 100


@dataclass
class Tally:
    """Calls by operation and power of two of microseconds."""

    buckets: dict[str, Counter[int]] = field(default_factory=dict)

    def add(self, name: str, taken_ns: int) -> None:
        """One call."""
        self.buckets.setdefault(name, Counter())[max(0, taken_ns // 1000).bit_length()] += 1

    def merge(self, other: Tally) -> None:
        """Another's calls as well."""
        for name, counts in other.buckets.items():
            self.buckets.setdefault(name, Counter()).update(counts)

    def quantile(self, name: str, share: float) -> float:
        """Seconds that this share of the calls took at most; the bucket's upper end."""
        counts, seen = self.buckets[name], 0
        for bucket in sorted(counts):
            seen += counts[bucket]
            if seen >= share * counts.total():
                return float(2**bucket / 1e6)
        raise ValueError(share)


class Writer(threading.Thread):
    """Puts, gets, batches and deletes on keys of its own."""

    def __init__(self, number: int, records: Records, texts: list[bytes], until: float) -> None:
        super().__init__()
        self.number, self._records, self._texts, self._until = number, records, texts, until
        self.known: dict[bytes, bytes | None] = {}
        self.tally, self.wrong, self.operations = Tally(), 0, 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Until the time is over."""
        rng = random.Random(self.number)
        try:
            while time.monotonic() < self._until:
                self._step(rng)
        except BaseException as e:
            self.error = e

    def _step(self, rng: random.Random) -> None:
        what, key = rng.random(), self._key(rng)
        clock, before = time.perf_counter_ns, time.perf_counter_ns()
        if what < READS:
            found = self._records.get(FAMILY, key)
            self.tally.add("get", clock() - before)
            self.wrong += found != self.known.get(key)
        elif what < READS + WRITES:
            value = rng.choice(self._texts)
            self._records.put(FAMILY, key, value)
            self.tally.add("put", clock() - before)
            self.known[key] = value
        else:
            changes = {self._key(rng): rng.choice([*self._texts[:99], None]) for _ in range(BATCH)}
            count = b"%d" % self.operations
            changes[self.counter] = count
            self._records.write((FAMILY, k, v) for k, v in changes.items())
            self.tally.add("batch of 100", clock() - before)
            self.known |= changes
        self.operations += 1

    def _key(self, rng: random.Random) -> bytes:
        return hashed(b"%d %d" % (self.number, rng.randrange(KEYS)))

    @property
    def counter(self) -> bytes:
        """Where the thread says how far it is."""
        return b"counter %d" % self.number


def follow(
    folder: str, writers: int, stop: Event, results: multiprocessing.Queue[tuple[int, int]]
) -> None:
    """In a process of its own: catch up and read until told to stop."""
    read = wrong = 0
    last = [-1] * writers
    with Records(Path(folder), "follow") as records:
        while not stop.is_set():
            records.engine.catch_up()
            for number in range(writers):
                value = records.get(FAMILY, b"counter %d" % number)
                at = -1 if value is None else int(value)
                wrong += at < last[number]
                last[number] = at
                for key, _ in zip(range(50), records.scan(FAMILY), strict=False):
                    read += 1
                    del key
            time.sleep(0.01)
    results.put((read, wrong))


def stress(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """The whole run; raises what a writer or a check raises."""
    texts = [value for _, value in text_records(args.data, 2_000)]
    settings = StoreConfig(durability=args.durability, write_buffer_mb=4)  # many tables
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    with Records(folder, "write", settings) as records:
        arguments = (str(folder), args.threads, stop, results)
        readers = [context.Process(target=follow, args=arguments) for _ in range(args.readers)]
        for reader in readers:
            reader.start()
        until = time.monotonic() + 60 * args.minutes
        writers = [Writer(n, records, texts, until) for n in range(args.threads)]
        cpu, began = time.process_time(), time.monotonic()
        for writer in writers:
            writer.start()
        with progress.bar(round(60 * args.minutes), "stressing the store", "s") as shown:
            while any(writer.is_alive() for writer in writers):
                time.sleep(1)
                shown.update(1)
        elapsed_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
        stop.set()
        followed = [results.get(timeout=60) for _ in readers]
        for reader in readers:
            reader.join()
    return _verdict(folder, settings, writers, followed, elapsed_s, cpu_s)


def _verdict(
    folder: Path,
    settings: StoreConfig,
    writers: list[Writer],
    followed: list[tuple[int, int]],
    elapsed_s: float,
    cpu_s: float,
) -> dict[str, object]:
    tally = Tally()
    lost = kept = 0
    with Records(folder, "read", settings) as records:
        for writer in writers:
            if writer.error is not None:
                raise writer.error
            tally.merge(writer.tally)
            kept += len(writer.known)
            lost += sum(records.get(FAMILY, key) != value for key, value in writer.known.items())
    operations = sum(writer.operations for writer in writers)
    return {
        "seconds": elapsed_s,
        "cpu_s": cpu_s,
        "operations": operations,
        "operations_per_s": operations / elapsed_s,
        "keys": kept,
        "lost": lost,
        "wrong": sum(writer.wrong for writer in writers),
        "followers_read": sum(read for read, _ in followed),
        "followers_wrong": sum(wrong for _, wrong in followed),
        "unsealed": _unsealed(folder, settings),
        "latency_s": {
            name: {
                q: tally.quantile(name, s)
                for q, s in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
            }
            for name in tally.buckets
        },
        "histogram_us": {n: {2**b: c[b] for b in sorted(c)} for n, c in tally.buckets.items()},
    }


def _unsealed(folder: Path, settings: StoreConfig) -> int:
    """Records on the disk, and stretches of files, that are not what was written."""
    with Records(folder, "read", uncached(settings)) as records:
        return sum(not _whole(found) for found in read_around(records.engine, FAMILY))


def _whole(found: Found) -> bool:
    if isinstance(found, Damage):
        return False
    try:
        unseal(*found)
    except DamageError:
        return False
    return True


def main() -> int:
    """Run, print, and exit with 1 if anything was lost."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    p.add_argument("--minutes", type=float, default=2.0, help="of writing (default 2)")
    p.add_argument("--threads", type=int, default=4, help="that write and read (default 4)")
    p.add_argument("--readers", type=int, default=2, help="processes that follow (default 2)")
    p.add_argument("--durability", choices=DURABILITIES, default="process")
    p.add_argument("--data", metavar="FOLDER", type=Path, help="more texts")
    p.add_argument("--quick", action="store_true", help="five seconds")
    p.add_argument("--device", help="is not used: the store runs on no accelerator")
    p.add_argument("--json", metavar="FILE", help="write the figures; - prints them last")
    args = p.parse_args()
    if args.quick:
        args.minutes = 5 / 60
    with tempfile.TemporaryDirectory() as folder:
        found = stress(args, Path(folder) / "s")
    print(f"{hardware()}; commit {commit() or 'unknown'}\n\n{_table(found)}")
    if args.json:
        text = json.dumps({"hardware": hardware(), "commit": commit(), **found})
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return int(any(found[what] for what in ("lost", "wrong", "followers_wrong", "unsealed")))


def _table(found: dict[str, object]) -> str:
    histogram, latency = found["histogram_us"], found["latency_s"]
    assert isinstance(histogram, dict)
    assert isinstance(latency, dict)
    edges = sorted({edge for counts in histogram.values() for edge in counts})
    rows = [
        (f"< {seconds(e / 1e6)}", *(str(c.get(e, 0)) for c in histogram.values())) for e in edges
    ]
    quantiles = [
        (q, *(f"< {seconds(latency[name][q])}" for name in histogram))
        for q in ("p50", "p99", "p99.9")
    ]
    told = ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in found.items()
        if isinstance(value, int | float)
    )
    return f"{render(('calls that took', *histogram), rows + quantiles)}\n\n{told}"


if __name__ == "__main__":
    sys.exit(main())
