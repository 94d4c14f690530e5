"""Damage in a store's files: what can be read around it is kept, nothing is silently wrong."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact
from test_check import COUNT, SMALL, copy, flip, good
from test_codec import records

from pcompiler.codec import dictionary
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError
from pcompiler.store.backup import backup
from pcompiler.store.check import check
from pcompiler.store.db import Store
from pcompiler.store.drafts import Draft
from pcompiler.store.records import SEALED
from pcompiler.store.uploads import Upload

__all__ = ["copy", "good"]  # fixtures


def test_a_flipped_bit_in_a_table_costs_no_more_than_its_block(copy: Path) -> None:
    """Wherever it is: what is left is as it was written, and what is lost is told."""
    with Store(copy, "read", SMALL) as store:
        before = {h.id: (store.get(h.id), store.source(h.prompt_hash)) for h in store.headers()}
    tables = sorted(copy.glob("*.sst"))
    rng, original = random.Random(0), copy.with_name("original")
    copy.rename(original)
    left, noticed = [], 0
    for _ in range(25):
        shutil.copytree(original, copy)
        (table,) = rng.choices(tables, [table.stat().st_size for table in tables])
        flip(table, rng.randrange(table.stat().st_size), rng.randrange(8))
        report = check(copy, SMALL)
        assert check(copy, SMALL).damage == []
        with Store(copy, settings=SMALL) as store:  # and it can be written to again
            found = {h.id: (store.get(h.id), store.source(h.prompt_hash)) for h in store.headers()}
            for key, (stored, prompt) in found.items():
                assert stored == before[key][0]
                assert prompt == before[key][1] or (prompt is None and key in report.incomplete)
            store.put(artifact(COUNT), PROMPT, PROBES)
        assert report.damage or found == before
        assert (report.kept is not None) == bool(report.damage)
        if report.kept:
            assert len(list(report.kept.glob("*.sst"))) == len(tables)
        left.append(len(found))
        noticed += bool(report.damage)
        for folder in copy.parent.glob("s*"):
            shutil.rmtree(folder)
    assert sorted(left)[len(left) // 2] >= COUNT - 12  # what shares a block with the damage goes
    assert noticed > 12  # the others are in what no one reads


@pytest.mark.parametrize("name", ["MANIFEST-*", "CURRENT", "OPTIONS-*"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damaged_lists_of_files_are_made_anew_from_the_files(
    copy: Path, name: str, how: str
) -> None:
    path = next(copy.glob(name))
    if how == "flip":
        flip(path, path.stat().st_size // 2)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    report = check(copy, SMALL)
    assert report.mended in (None, True)
    with Store(copy, "read", SMALL) as store:
        assert len(list(store.headers())) == COUNT
        assert store.header("support").id == artifact(7).header.id
    assert check(copy, SMALL).damage == []


def test_a_damaged_log_costs_no_more_than_a_block_of_it(tmp_path: Path) -> None:
    """RocksDB takes logs in blocks of 32 KiB, and a block with damage is lost from there on."""
    folder, count = tmp_path / "live", 300
    with Store(folder) as store:
        for number in range(20):
            store.put(artifact(number), PROMPT, PROBES)
    with Store(folder) as store:
        for number in range(20, count):
            store.put(artifact(number), PROMPT, PROBES)
        shutil.copytree(folder, tmp_path / "killed")
    (log,) = (p for p in (tmp_path / "killed").glob("*.log") if p.stat().st_size)
    in_a_block = 32 * 2**10 * (count - 20) / log.stat().st_size
    for share in (0.2, 0.5, 0.8):
        copied = tmp_path / f"s{share}"
        shutil.copytree(tmp_path / "killed", copied)
        flip(copied / log.name, int(log.stat().st_size * share))
        report = check(copied, StoreConfig())
        assert report.damage
        assert report.mended
        with Store(copied, "read") as store:
            found = {h.id for h in store.headers()}
            assert all(store.get(key).header.id == key for key in found)
        assert {artifact(n).header.id for n in range(20)} <= found
        assert count - 2 * in_a_block <= len(found) < count
        assert check(copied, StoreConfig()).damage == []


def test_a_check_reads_the_disk_and_not_what_the_process_remembers(copy: Path) -> None:
    """RocksDB's cache knows tables by who wrote them: a copy's blocks are those of the original."""
    table = max(copy.glob("*.sst"), key=lambda path: path.stat().st_size)
    flip(table, table.stat().st_size // 2)
    with contextlib.suppress(DamageError), Store(copy, "read", SMALL) as store:
        sum(1 for h in store.headers() if store.get(h.id) and store.source(h.prompt_hash))
    assert check(copy, SMALL, mend=False).damage
    with pytest.raises(DamageError):
        backup(copy, copy.with_name("b"), SMALL)


def test_damage_in_the_files_of_any_kind_of_record_is_mended(copy: Path) -> None:
    with Store(copy, settings=SMALL) as store:
        for number in range(200):
            store.records.put("embeddings", b"%d" % number, bytes(100))
            draft = Draft(f"{number:024x}", artifact(0).header.prompt_hash, None)
            store.records.put("drafts", draft.id.encode(), draft.encode())
            upload = Upload(draft.id, "file:///shared", "2026-01-01T00:00:00+00:00")
            store.records.put("uploads", draft.id.encode(), upload.encode())
        store.add_dictionary(dictionary.train(records(50), 4096))
        store.records.engine.compact()
    tables = [path.name for path in sorted(copy.glob("*.sst"))]
    assert len(tables) == len(SEALED) + 1  # and the format's
    original = copy.rename(copy.with_name("original"))
    for name in tables:
        shutil.copytree(original, copy)
        flip(copy / name, 20)  # in its first block
        report = check(copy, SMALL)
        assert (bool(report.damage), report.mended) == (True, True)
        assert check(copy, SMALL).damage == []
        with Store(copy, settings=SMALL) as store:
            store.put(artifact(COUNT), PROMPT, PROBES)
            assert sum(1 for _ in store.headers()) > COUNT - 12
        for folder in copy.parent.glob("s*"):
            shutil.rmtree(folder)
