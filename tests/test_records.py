"""Records come back as they were written, or as an error; their checksums and versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import rocksdict as rocks
from bare import PROBES, PROMPT, artifact
from hypothesis import given
from hypothesis import strategies as st

from pcompiler.config import StoreConfig
from pcompiler.errors import ConfigError, DamageError, MismatchError, StoreUnavailable
from pcompiler.store import format as formats
from pcompiler.store.db import Store
from pcompiler.store.engine import Engine
from pcompiler.store.records import FAMILIES, Records
from pcompiler.store.rocksdb import options
from pcompiler.store.seal import SEAL_BYTES, seal, unseal


@given(st.binary(max_size=40), st.binary(max_size=200), st.data())
def test_a_sealed_record_comes_back_and_a_changed_one_does_not(
    key: bytes, value: bytes, data: st.DataObject
) -> None:
    record = seal(key, value)
    assert len(record) == len(value) + SEAL_BYTES
    assert unseal(key, record) == value
    place = data.draw(st.integers(0, len(record) * 8 - 1))
    changed = bytearray(record)
    changed[place // 8] ^= 1 << place % 8
    for other_key, other in ((key, bytes(changed)), (key, record[1:]), (key + b"x", record)):
        with pytest.raises(DamageError):
            unseal(other_key, other)


def test_long_and_short_values_have_the_same_kind_of_seal() -> None:
    for size in (2**16 - 1, 2**16, 2**16 + 1):
        assert unseal(b"k", seal(b"k", b"v" * size)) == b"v" * size


def test_many_records_are_got_in_order_and_scanned_by_prefix(tmp_path: Path) -> None:
    with Records(tmp_path / "s") as records:
        pairs = {b"%03d" % n: bytes([n]) * n for n in range(200)}
        records.write(("names", key, value) for key, value in pairs.items())
        asked = [b"150", b"none", b"003"]
        assert records.get_many("names", asked) == [pairs[b"150"], None, pairs[b"003"]]
        assert list(records.scan("names", b"1")) == [(k, pairs[k]) for k in pairs if k[:1] == b"1"]
        assert [k for k, _ in records.scan("names", b"1", b"195")] == [
            b"19%d" % n for n in range(5, 10)
        ]
        assert list(records.scan("names", b"9")) == []


def test_a_record_under_another_ones_key_is_noticed(tmp_path: Path) -> None:
    with Records(tmp_path / "s") as records:
        records.put("names", b"a", b"1")
        moved = records.engine.get("names", b"a")
        records.engine.write([("names", b"b", moved)])
        assert records.get("names", b"a") == b"1"
        for read in (
            lambda: records.get("names", b"b"),
            lambda: records.get_many("names", [b"b"]),
            lambda: list(records.scan("names")),
        ):
            with pytest.raises(DamageError, match="record b of names"):
                read()


def test_a_follower_sees_what_was_written_since_and_a_frozen_view_does_not(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as writer:
        writer.put(artifact(1), PROMPT, PROBES)
        with Store(tmp_path / "s", "follow") as follower, Store(tmp_path / "s", "read") as frozen:
            writer.put(artifact(2), PROMPT, PROBES)
            assert len(list(frozen.headers())) == 1
            follower.catch_up()
            assert len(list(follower.headers())) == 2
            assert follower.get(artifact(2).header.id) == artifact(2)


def old_store(folder: Path, count: int) -> None:
    """A store of format 1: records as they are, no mark."""
    names = ("artifacts", "tensors", "prompts", "probes", "dictionaries")
    families = {name: options(StoreConfig()) for name in names}
    db = rocks.Rdict(str(folder), options(StoreConfig()), column_families=families)
    for number in range(count):
        a = artifact(number)
        db.get_column_family("artifacts")[a.header.id.encode()] = a.header.record()
        db.get_column_family("tensors")[a.header.id.encode()] = a.body
        db.get_column_family("prompts")[a.header.prompt_hash.encode()] = PROMPT.encode()
        db.get_column_family("probes")[a.header.probes_hash.encode()] = PROBES.encode()
    db.close()


def whole(store: Store, count: int) -> bool:
    return [h.id for h in store.headers()] == [artifact(n).header.id for n in range(count)] and all(
        store.get(artifact(n).header.id) == artifact(n) for n in range(count)
    )


def test_an_older_store_is_brought_up_to_date_by_a_writer(tmp_path: Path) -> None:
    old_store(tmp_path / "s", 7)
    with pytest.raises(MismatchError, match=r"format 1.*store check"):
        Store(tmp_path / "s", "read")
    for access in ("write", "read", "write"):
        with Store(tmp_path / "s", access) as store:  # type: ignore[arg-type]
            assert whole(store, 7)
            assert store.source(artifact(0).header.prompt_hash) == PROMPT


def test_a_killed_migration_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_store(tmp_path / "old", 9)
    monkeypatch.setattr(formats, "_BATCH_BYTES", 2_000)  # a few records each
    write, after = Engine.write, 0
    while True:
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        shutil.copytree(tmp_path / "old", tmp_path / "s")
        left = [after]

        def stop(engine: Engine, changes: object, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(engine, changes)  # type: ignore[arg-type]

        monkeypatch.setattr(Engine, "write", stop)
        try:
            Store(tmp_path / "s").close()
            finished = True
        except KeyboardInterrupt:
            finished = False
        monkeypatch.setattr(Engine, "write", write)
        with Store(tmp_path / "s") as store:
            assert whole(store, 9)
        if finished:
            break
        after += 1
    assert after > 5


def test_a_newer_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with Records(tmp_path / "s") as records:
        records.engine.write([("metadata", b"format", b"99")])
    for access in ("write", "read"):
        with pytest.raises(MismatchError, match=r"format 99.*Update pcompiler"):
            Store(tmp_path / "s", access)  # type: ignore[arg-type]
    with Engine(tmp_path / "s", FAMILIES, "write", StoreConfig()) as engine:
        assert engine.get("metadata", b"format") == b"99"


@pytest.mark.parametrize("durability", ["process", "power"])
def test_both_kinds_of_durability_keep_what_was_written(tmp_path: Path, durability: str) -> None:
    with Store(tmp_path / "s", settings=StoreConfig(durability=durability)) as store:
        store.put(artifact(1), PROMPT, PROBES)
    with Store(tmp_path / "s", "read") as store:
        assert store.get(artifact(1).header.id) == artifact(1)


@pytest.mark.parametrize(
    "settings",
    [
        {"durability": "hope"},
        {"max_bytes": 0},
        {"cache_mb": -1},
        {"block_kb": 2**20},
        {"bottom_level": 23},
        {"bloom_bits": -1},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        StoreConfig(**settings)  # type: ignore[arg-type]


def test_a_folder_that_is_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("x")
    with pytest.raises((StoreUnavailable, Exception), match="not a folder"):
        Store(tmp_path / "s")
