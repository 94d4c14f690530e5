"""Prompts and probes in a store: plain, or with the dictionary that they name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import rocksdict as rocks
from test_artifact import make
from test_codec import records

from pcompiler.codec import dictionary, zstd
from pcompiler.codec.dictionary import Dictionary
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, MismatchError, StoreUnavailable
from pcompiler.store import texts
from pcompiler.store.artifact import Artifact
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash
from pcompiler.store.records import FAMILIES
from pcompiler.store.rocksdb import options

PROBES = '{"query": "x"}\n'
OLD_FAMILIES = ("artifacts", "tensors", "prompts", "probes")  # before there were dictionaries


def of(prompt: str, number: int = 1) -> Artifact:
    return make(
        id=f"{number:024x}", prompt_hash=content_hash(prompt), probes_hash=content_hash(PROBES)
    )


def prompts(number: int) -> list[str]:
    return [record.decode() for record in records(number)]


@pytest.fixture(scope="module")
def learnt() -> Dictionary:
    return dictionary.train(records(100), 4096, level=texts.LEVEL)


def raw(store: Store, prompt: str) -> bytes:
    return store.records.get("prompts", content_hash(prompt).encode()) or b""


def test_prompts_are_stored_with_the_current_dictionary_and_read_with_their_own(
    store: Store, learnt: Dictionary
) -> None:
    first, second, third = prompts(103)[100:]
    store.put(of(first, 1), first, PROBES)
    assert raw(store, first) == first.encode()
    assert store.dictionary() is None

    assert store.add_dictionary(learnt) == learnt == store.dictionary()
    store.put(of(second, 2), second, PROBES)
    assert zstd.dictionary_id(raw(store, second)) == learnt.id
    assert len(raw(store, second)) < 0.5 * len(second)
    assert raw(store, first) == first.encode()

    newer = dictionary.train(records(60), 8192, version=2)
    store.add_dictionary(newer)
    before = raw(store, second)
    store.put(of(third, 3), third, PROBES)
    assert zstd.dictionary_id(raw(store, third)) == newer.id
    assert raw(store, second) == before
    for text in (first, second, third):
        assert store.source(content_hash(text)) == text
    assert sorted(store.texts()) == sorted([first, second, third, PROBES])
    assert [(d.id, n) for d, n in store.dictionaries()] == [(learnt.id, 1), (newer.id, 1)]


def test_another_process_reads_with_the_dictionaries_of_the_store(
    tmp_path: Path, learnt: Dictionary
) -> None:
    (prompt,) = prompts(1)
    with Store(tmp_path / "s") as store:
        store.add_dictionary(learnt)
        store.put(of(prompt), prompt, PROBES)
    with Store(tmp_path / "s", access="read") as store:
        assert store.source(content_hash(prompt)) == prompt
        assert store.dictionary() == learnt


@pytest.mark.parametrize("prompt", ["", "a", "é😀", "\0" * 9, "(µ/ý", "x" * 200_000])
def test_what_a_dictionary_does_not_help_stays_plain_or_at_least_right(
    store: Store, learnt: Dictionary, prompt: str
) -> None:
    store.add_dictionary(learnt)
    store.put(of(prompt), prompt, PROBES)
    assert store.source(content_hash(prompt)) == prompt
    assert len(raw(store, prompt)) <= len(prompt.encode())


def test_long_texts_are_left_plain(
    store: Store, learnt: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MAX_TEXT_BYTES", 100)
    (prompt,) = prompts(1)
    store.add_dictionary(learnt)
    store.put(of(prompt), prompt, PROBES)
    assert raw(store, prompt) == prompt.encode()
    assert store.source(content_hash(prompt)) == prompt


def test_a_record_whose_dictionary_is_lost_says_which(tmp_path: Path, learnt: Dictionary) -> None:
    (prompt,) = prompts(1)
    with Store(tmp_path / "s") as store:
        store.add_dictionary(learnt)
        store.put(of(prompt), prompt, PROBES)
        store.records.write([("dictionaries", str(learnt.id).encode(), None)])
    with Store(tmp_path / "s") as store:
        with pytest.raises(DamageError, match=f"prompts.*dictionary {learnt.id} is not in"):
            store.source(content_hash(prompt))
        with pytest.raises(DamageError, match=f"dictionary {learnt.id}"):
            store.put(of("other"), "other", PROBES)
        store.add_dictionary(learnt)  # training again on the same samples mends it
        assert store.source(content_hash(prompt)) == prompt


def test_damaged_dictionaries_and_frames_are_noticed(tmp_path: Path, learnt: Dictionary) -> None:
    (prompt,) = prompts(1)
    key = content_hash(prompt).encode()
    other = dictionary.train(records(60), 8192)
    with Store(tmp_path / "s") as store:
        store.add_dictionary(learnt)
        store.put(of(prompt), prompt, PROBES)
        good = raw(store, prompt)
    swapped = good[:5] + other.id.to_bytes(4, "little") + good[9:]
    for family, at, value in (
        ("prompts", key, good[:-1]),
        ("prompts", key, good + b"x"),
        ("prompts", key, zstd.compress(b"another")),
        ("prompts", key, swapped),
        ("dictionaries", str(learnt.id).encode(), b"junk"),
        ("dictionaries", str(learnt.id).encode(), other.encode()),
    ):
        with Store(tmp_path / "s") as store:
            store.records.write(
                [("prompts", key, good), ("dictionaries", str(learnt.id).encode(), learnt.encode())]
            )
            store.records.write([(family, at, value)])
        with Store(tmp_path / "s") as store, pytest.raises(DamageError):
            store.source(content_hash(prompt))


def test_dictionaries_that_records_need_are_never_dropped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MAX_DICTIONARIES", 3)
    found = [
        replace(dictionary.train(records(20, seed), 2048), created=f"2026-01-0{seed}")
        for seed in range(1, 7)
    ]
    for seed, each in enumerate(found[:3], 1):
        store.add_dictionary(each)
        if seed != 2:
            prompt = records(1, seed)[0].decode()
            store.put(of(prompt, seed), prompt, PROBES)
    store.add_dictionary(found[3])
    assert [d.id for d, _ in store.dictionaries()] == [found[i].id for i in (0, 2, 3)]
    store.add_dictionary(found[0])  # here already: current again, and nothing makes room
    assert store.dictionary() == found[0]
    assert len(store.dictionaries()) == 3
    store.add_dictionary(found[3])
    prompt = records(1, 4)[0].decode()
    store.put(of(prompt, 4), prompt, PROBES)
    with pytest.raises(StoreUnavailable, match="3 dictionaries"):
        store.add_dictionary(found[4])
    assert store.dictionary() == found[3]


def test_a_store_from_before_there_were_dictionaries_opens(
    tmp_path: Path, learnt: Dictionary
) -> None:
    prompt = prompts(1)[0]
    artifact = of(prompt)
    families = {name: options(StoreConfig()) for name in OLD_FAMILIES}
    old = rocks.Rdict(str(tmp_path / "s"), options(StoreConfig()), column_families=families)
    records_ = {
        "artifacts": (artifact.header.id, artifact.header.record()),
        "tensors": (artifact.header.id, artifact.body),
        "prompts": (artifact.header.prompt_hash, prompt.encode()),
        "probes": (artifact.header.probes_hash, PROBES.encode()),
    }
    for family, (key, value) in records_.items():
        old.get_column_family(family)[key.encode()] = value
    old.close()
    migrated = False
    for read_only in (True, False, True):
        if read_only and not migrated:
            with pytest.raises(MismatchError, match=r"format 1.*store check"):
                Store(tmp_path / "s", "read")
            continue
        with Store(tmp_path / "s", access="read" if read_only else "write") as store:
            migrated = True
            assert store.get(artifact.header.id) == artifact
            assert store.source(content_hash(prompt)) == prompt
            if not read_only:
                assert store.dictionaries() == []
                store.add_dictionary(learnt)
    assert store.path == tmp_path / "s"


def test_a_store_of_a_newer_version_with_another_family_opens(tmp_path: Path) -> None:
    families = {name: options(StoreConfig()) for name in (*FAMILIES, "thumbnails")}
    rocks.Rdict(str(tmp_path / "s"), options(StoreConfig()), column_families=families).close()
    for read_only in (True, False):
        with Store(tmp_path / "s", access="read" if read_only else "write") as store:
            assert list(store.headers()) == []


TRAINER = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from test_texts import PROBES, dictionary, of, records
from pcompiler.store.db import Store
with Store(Path({store!r})) as store:
    for n in range({start}, 10**9):
        store.add_dictionary(dictionary.train(records(20, n), 1024))
        prompt = records(1, n)[0].decode()
        store.put(of(prompt, n), prompt, PROBES); print(n, flush=True)
"""


def test_a_killed_trainer_leaves_every_record_readable(tmp_path: Path) -> None:
    acknowledged = []
    for round_ in range(4):
        code = TRAINER.format(
            tests=str(Path(__file__).parent), store=str(tmp_path / "s"), start=round_ * 1000 + 1
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert child.stdout is not None
        acknowledged += [int(child.stdout.readline()) for _ in range(1 + 3 * round_)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
        child.wait()
        child.stdout.close()
    with Store(tmp_path / "s") as store:
        for n in acknowledged:
            prompt = records(1, n)[0].decode()
            assert store.source(content_hash(prompt)) == prompt
        assert len(list(store.texts())) >= len(acknowledged) + 1
        known = {d.id for d, _ in store.dictionaries()}
        current = store.dictionary()
        assert current is not None
        assert current.id in known
