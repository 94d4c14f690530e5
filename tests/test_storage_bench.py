"""The storage benchmark: both sides do the same work, and the stress test notices a loss."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from benches import storage_stress_test
from pcompiler.bench.__main__ import main as bench
from pcompiler.bench.storage import (
    FAMILY,
    RECORD_BYTES,
    Ours,
    Pair,
    Raw,
    disk_bytes,
    hashed,
    in_order,
    latencies,
    parts,
    text_records,
)
from pcompiler.bench.storage_trade import trades
from pcompiler.config import StoreConfig
from pcompiler.store.records import Records


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return text_records(None, 1_000)


def test_records_are_pieces_of_real_text_each_once(pairs: list[Pair]) -> None:
    assert len({key for key, _ in pairs}) == len({value for _, value in pairs}) == 1_000
    assert {len(value) for _, value in pairs} == {RECORD_BYTES}
    assert all(key == hashed(value) for key, value in pairs)
    assert pairs != sorted(pairs)  # keys come by chance
    ordered = in_order(None, 1_000)
    assert ordered == sorted(ordered)


@pytest.mark.parametrize("side", [Ours, Raw])
def test_both_sides_store_all_records_and_hot_reads_change_nothing(
    tmp_path: Path, side: type[Ours] | type[Raw], pairs: list[Pair]
) -> None:
    store = side(tmp_path / "s", StoreConfig())
    store.put(pairs[:500])
    store.batches(pairs)
    store.settle()
    for read in (store.get, store.many, store.ranges):
        read(pairs)
    store.close()
    size = sum(len(key) + len(value) for key, value in pairs)
    assert 0.2 * size < disk_bytes(tmp_path / "s") < 0.7 * size
    if side is Ours:
        with Records(tmp_path / "s", "read") as records:
            assert dict(records.scan(FAMILY)) == dict(pairs)


def test_latencies_are_of_single_calls(pairs: list[Pair]) -> None:
    seen: list[int] = []

    def call(part: object) -> None:
        seen.append(len(part))  # type: ignore[arg-type]
        time.sleep(0.02 if len(seen) == 7 else 0.001)

    found = latencies(call, parts(pairs, 100))
    assert seen == [100] * 10
    assert 0.001 <= found.p50 < 0.01 < found.p99
    assert found.p50 < found.mean < found.p99


def test_a_higher_level_and_a_dictionary_save_more_and_squeeze_slower(
    tmp_path: Path, pairs: list[Pair]
) -> None:
    low, high = trades(pairs, tmp_path, quick=True)
    assert low.saved < high.saved < 1
    assert low.compaction_mb_per_s > high.compaction_mb_per_s > 0
    assert low.get_s > 0


def test_the_suite_answers_every_storage_row_of_the_reference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench(["--suite", "storage_performance", "--quick", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    for row in ("put, mean", "batch of 100, mean", "get, hot, mean", "range of 100, mean"):
        assert row in out
    assert "saved on disk" in out
    assert "share of rocksdict's speed" in out


def test_the_stress_test_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stress", "--minutes", "0.06", "--readers", "1"])
    assert storage_stress_test.main() == 0
    assert "lost 0, wrong 0" in capsys.readouterr().out


def test_the_stress_test_notices_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put, calls = Records.put, [0]
    lock = threading.Lock()

    def forgetful(self: Records, family: str, key: bytes, value: bytes) -> None:
        with lock:
            calls[0] += 1
        if calls[0] % 50:
            put(self, family, key, value)

    monkeypatch.setattr(Records, "put", forgetful)
    monkeypatch.setattr(sys, "argv", ["stress", "--minutes", "0.02", "--readers", "0"])
    assert storage_stress_test.main() == 1
    assert "lost 0, wrong 0" not in capsys.readouterr().out


def test_the_stress_test_counts_records_that_are_not_what_was_written(tmp_path: Path) -> None:
    with Records(tmp_path / "s") as records:
        for number in range(9):
            records.put(FAMILY, b"%d" % number, b"text")
        assert storage_stress_test._unsealed(tmp_path / "s", StoreConfig()) == 0
        records.engine.write([(FAMILY, b"4", b"junk"), (FAMILY, b"7", b"")])
    assert storage_stress_test._unsealed(tmp_path / "s", StoreConfig()) == 2
