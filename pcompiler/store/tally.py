"""What a store was asked for. A get takes 3 µs, so it is counted plainly and reported in sums.

A get's or put's numbers are attributes that only grow. Threads may share them: no call comes
between reading one and writing it, and only there does CPython switch. One in 64 is timed.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from pcompiler import meter
from pcompiler.store.engine import Change, Engine
from pcompiler.store.seal import SEAL_BYTES, seal

_UNTIMED = 63  # a mask: of 64 gets, one is timed
_MOST_TIMES = 2**14  # kept until they are reported
_PROPERTIES = {
    "rocksdb_memtable_bytes": "cur-size-all-mem-tables",
    "rocksdb_sst_bytes": "total-sst-files-size",
    "rocksdb_pending_compaction_bytes": "estimate-pending-compaction-bytes",
}


class _Family:
    """Totals of one family since the store was opened; found and missed are keys."""

    __slots__ = (
        "found",
        "gets",
        "missed",
        "puts",
        "read_bytes",
        "scanned",
        "written",
        "written_bytes",
    )

    def __init__(self) -> None:
        self.gets = self.found = self.missed = self.scanned = self.read_bytes = 0
        self.puts = self.written = self.written_bytes = 0


class Tally:
    """A source of ``meter`` for one open store.

    Args:
        engine: whose operations are counted.
        families: that it has or may come to have.
    """

    def __init__(self, engine: Engine, families: Iterable[str]) -> None:
        self._engine = engine
        self._families = {name: _Family() for name in families}
        self._calls = dict.fromkeys(("get_many", "write", "scan", "catch_up"), 0)
        self._times: dict[str, deque[float]] = {
            name: deque(maxlen=_MOST_TIMES) for name in ("get", "put", *self._calls)
        }
        self._told: dict[tuple[str, ...], int] = {}
        self._telling = threading.Lock()

    def get(self, family: str, get: Callable[[bytes], bytes | None]) -> Callable[..., bytes | None]:
        """The same ``get`` of one record, counted."""
        known, clock = self._families[family], time.perf_counter
        timed = self._times["get"].append

        def counted(key: bytes) -> bytes | None:
            number = known.gets
            known.gets = number + 1
            if number & _UNTIMED:
                record = get(key)
            else:
                start = clock()
                record = get(key)
                timed(clock() - start)
            if record is None:
                known.missed += 1
            else:
                size = len(record)
                known.found += 1
                known.read_bytes += size
            return record

        return counted

    def put(self, family: str, put: Callable[[bytes, bytes], None]) -> Callable[..., None]:
        """The same ``put`` of one record, counted."""
        known, clock = self._families[family], time.perf_counter
        timed = self._times["put"].append

        def counted(key: bytes, record: bytes) -> None:
            if known.puts & _UNTIMED:
                put(key, record)
            else:
                start = clock()
                put(key, record)
                timed(clock() - start)
            size = len(record)
            known.puts += 1
            known.written_bytes += size

        return counted

    def many(
        self, family: str, get: Callable[[list[bytes]], list[bytes | None]]
    ) -> Callable[..., list[bytes | None]]:
        """The same ``get`` of many records, counted."""
        known = self._families[family]

        def counted(keys: list[bytes]) -> list[bytes | None]:
            with self.timed("get_many"):
                found = get(keys)
            sizes = [len(record) for record in found if record is not None]
            total, there, asked = sum(sizes), len(sizes), len(keys)
            known.found += there
            known.missed += asked - there
            known.read_bytes += total
            return found

        return counted

    def write(self, changes: Iterable[Change]) -> None:
        """``Engine.write`` of sealed records, counted."""
        made = list(changes)
        with self.timed("write"):
            self._engine.write(made, seal)
        for family, _, value in made:
            known, size = self._families[family], 0 if value is None else len(value) + SEAL_BYTES
            known.written += 1
            known.written_bytes += size

    def scan(
        self, family: str, records: Iterator[tuple[bytes, bytes]]
    ) -> Iterator[tuple[bytes, bytes]]:
        """The same records, counted as they are read."""
        known = self._families[family]
        with self.timed("scan"):
            pair = next(records, None)
        while pair is not None:
            size = len(pair[1])
            known.scanned += 1
            known.read_bytes += size
            yield pair
            pair = next(records, None)

    def timed(self, operation: str) -> _Timed:
        """A context in which one operation runs."""
        self._calls[operation] += 1
        return _Timed(self._times[operation])

    def report(self) -> None:
        """Everything since the last report, and what RocksDB says of itself."""
        with self._telling:
            for name, known in self._families.items():
                self._of_family(name, known)
            families = self._families.values()
            self._calls["get"] = sum(known.gets for known in families)
            self._calls["put"] = sum(known.puts for known in families)
            for operation, total in self._calls.items():
                self._tell("store_operations", total, operation=operation)
            for operation, times in self._times.items():
                while times:
                    meter.observe("store_seconds", times.popleft(), operation=operation)
            with suppress(Exception):  # it may be closed at any moment
                self._states()

    def _of_family(self, name: str, known: _Family) -> None:
        found, written = known.found, known.puts + known.written
        self._tell("store_lookups", known.missed, family=name, result="miss")
        self._tell("store_lookups", found, family=name, result="hit")
        self._tell("store_records", found + known.scanned, family=name, side="read")
        self._tell("store_records", written, family=name, side="written")
        self._tell("store_bytes", known.read_bytes, family=name, side="read")
        self._tell("store_bytes", known.written_bytes, family=name, side="written")

    def _tell(self, metric: str, total: int, **labels: str) -> None:
        series = (metric, *labels.values())
        new = total - self._told.get(series, 0)
        if new > 0:
            meter.count(metric, new, **labels)
            self._told[series] = total

    def _states(self) -> None:
        handles = dict(self._engine.handles)
        if not handles:  # closed: how things stood is for others to say
            return
        for metric, name in _PROPERTIES.items():
            meter.gauge(metric, sum(_property(handle, name) for handle in handles.values()))
        for family, handle in handles.items():
            if family in self._families:
                meter.gauge("store_keys", _property(handle, "estimate-num-keys"), family=family)
        for state, name in (("used", "usage"), ("capacity", "capacity")):
            shared = [_property(handle, f"block-cache-{name}") for handle in handles.values()]
            meter.gauge("rocksdb_block_cache_bytes", max(shared, default=0), state=state)
        meter.gauge("disk_free_bytes", shutil.disk_usage(self._engine.path).free)


class _Timed:
    """A context manager for what takes tens of microseconds, where a generator's would show."""

    __slots__ = ("_start", "_times")

    def __init__(self, times: deque[float]) -> None:
        self._times = times

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._times.append(time.perf_counter() - self._start)


def _property(handle: Any, name: str) -> int:  # noqa: ANN401
    return handle.property_int_value(f"rocksdb.{name}") or 0
