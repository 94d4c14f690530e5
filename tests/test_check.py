"""Damage is found, named and set aside; what is not damaged can still be read."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact
from test_records import old_store, whole

from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, MismatchError, PcompilerError, StoreUnavailable
from pcompiler.store.artifact import Artifact
from pcompiler.store.check import check
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash

Cli = Callable[..., tuple[int, str, str]]
SMALL = StoreConfig(block_kb=1, bottom_dictionary_kb=0)  # many blocks, so that one is a small part
COUNT = 60


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of which all is in tables."""
    folder = tmp_path_factory.mktemp("good") / "s"
    with Store(folder, settings=SMALL) as store:
        for number in range(COUNT):  # large enough that chance hits them, and not their index
            rng = random.Random(number)
            body, prompt = rng.randbytes(1500), f"{PROMPT} {rng.randbytes(1000).hex()}"
            header = replace(
                artifact(number).header,
                prompt_hash=content_hash(prompt),
                body_bytes=len(body),
                body_sha256=hashlib.sha256(body).hexdigest(),
            )
            store.put(Artifact(header, body), prompt, PROBES)
        store.point({"support": artifact(7).header.id})
        store.records.engine.compact()
    return folder


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "s"))


def test_a_whole_store_has_nothing_to_mend(copy: Path) -> None:
    for mend in (False, True):
        report = check(copy, SMALL, mend)
        assert (report.damage, report.incomplete, report.mended) == ([], [], None)
        assert report.records == 3 * COUNT + 2  # headers, tensors, prompts; a probe list, a name


def test_a_damaged_record_is_set_aside_as_it_was_found(copy: Path) -> None:
    key = artifact(3).header.id.encode()
    with Store(copy, settings=SMALL) as store:
        record = bytearray(store.records.engine.get("tensors", key) or b"")
        record[5] ^= 4
        store.records.engine.write([("tensors", key, bytes(record))])
        with pytest.raises(DamageError, match="store check"):
            store.get(artifact(3).header.id)
    looked = check(copy, SMALL, mend=False)
    assert {(d.where, d.key) for d in looked.damage} == {
        ("tensors", key.decode()),
        ("artifacts", key.decode()),
    }
    assert looked.mended is False
    assert check(copy, SMALL).mended is True
    assert check(copy, SMALL).damage == []
    with Store(copy, "read", SMALL) as store:
        assert len(list(store.headers())) == COUNT - 1
        kept = dict(store.records.engine.scan("quarantine"))
        assert kept[b"tensors/" + key] == bytes(record)


@pytest.mark.parametrize(
    ("family", "key", "value", "what"),
    [
        ("artifacts", b"0" * 23 + b"f", b"no header", "begin"),
        ("prompts", content_hash("x").encode(), b"y", "damaged"),
        ("names", b"x:latest", b"[]", "name"),
        ("dictionaries", b"5", b"junk", ""),
        ("tensors", b"f" * 24, b"no one's", "header is missing"),
    ],
)
def test_what_contradicts_itself_is_damage_though_its_checksum_matches(
    copy: Path, family: str, key: bytes, value: bytes, what: str
) -> None:
    with Store(copy, settings=SMALL) as store:
        store.records.put(family, key, value)
    report = check(copy, SMALL)
    assert any(d.where == family and what in d.what for d in report.damage)
    assert check(copy, SMALL).damage == []


def test_vectors_have_keys_that_are_no_text_and_their_damage_is_set_aside(copy: Path) -> None:
    key, other = bytes(range(200, 224)), b"\xff" * 24
    with Store(copy, settings=SMALL) as store:
        store.add_vectors({key: b"vector", other: b"vector"})
    assert check(copy, SMALL).damage == []
    with Store(copy, settings=SMALL) as store:
        store.records.engine.write([("embeddings", key, b"junk")])
    (damage,) = check(copy, SMALL).damage
    assert (damage.where, damage.key, damage.raw) == ("embeddings", key.hex(), key)
    assert check(copy, SMALL).damage == []
    with Store(copy, "read", SMALL) as store:
        assert store.vectors([key, other]) == [None, b"vector"]
        assert dict(store.records.engine.scan("quarantine"))[b"embeddings/" + key] == b"junk"


def test_a_name_whose_artifact_is_lost_points_at_nothing(copy: Path) -> None:
    lost = artifact(7).header.id.encode()
    with Store(copy, settings=SMALL) as store:
        store.records.write([("artifacts", lost, None), ("tensors", lost, None)])
    (damage,) = check(copy, SMALL).damage
    assert (damage.where, damage.key) == ("names", "support:latest")
    with Store(copy, "read", SMALL) as store:
        assert store.names.get("support").artifact is None


def test_an_artifact_whose_prompt_is_lost_works_and_is_told_of(copy: Path) -> None:
    with Store(copy, settings=SMALL) as store:
        header = store.header(artifact(4).header.id)
        store.records.write([("prompts", header.prompt_hash.encode(), None)])
    report = check(copy, SMALL)
    assert (report.damage, report.incomplete) == ([], [header.id])


def test_a_check_beside_a_writer_looks_and_says_why_it_did_not_mend(copy: Path) -> None:
    key = artifact(3).header.id.encode()
    with Store(copy, settings=SMALL) as store:
        store.records.engine.write([("tensors", key, b"junk")])
        report = check(copy, SMALL)
        assert (bool(report.damage), report.mended) == (True, False)
        assert "process" in report.why_not


def test_an_old_damaged_store_is_mended_and_brought_up_to_date(tmp_path: Path) -> None:
    old_store(tmp_path / "s", 9)
    with pytest.raises(MismatchError):
        check(tmp_path / "s", StoreConfig(), mend=False)
    assert check(tmp_path / "s", StoreConfig()).damage == []
    with Store(tmp_path / "s", "read") as store:
        assert whole(store, 9)


def test_a_store_of_a_newer_format_is_not_mended(copy: Path) -> None:
    with Store(copy, settings=SMALL) as store:
        store.records.engine.write([("metadata", b"format", b"3")])
    with pytest.raises(MismatchError):
        check(copy, SMALL)
    next(copy.glob("MANIFEST-*")).unlink()
    with pytest.raises(MismatchError):
        check(copy, SMALL)
    assert sorted(p.name for p in copy.parent.glob("s*")) == ["s"]


def test_the_command_exits_with_3_where_there_is_damage(cli: Cli, tmp_path: Path) -> None:
    assert cli("store", "check")[0] == 2
    (tmp_path / "p.md").write_text("The workshop opens at nine on all days.")
    artifact_id = json.loads(cli("compile", tmp_path / "p.md", "--json")[1])["artifact"]
    code, out, _ = cli("store", "check", "--json")
    assert (code, json.loads(out)["damage"], json.loads(out)["mended"]) == (0, [], None)
    with Store(tmp_path / "store") as store:
        store.records.engine.write([("tensors", artifact_id.encode(), b"junk")])
    assert cli("store", "check", "--dry-run")[0] == 3
    code, out, _ = cli("store", "check")
    assert (code, artifact_id in out, "set aside" in out) == (3, True, True)
    assert cli("store", "check")[0] == 0
    assert cli("compile", tmp_path / "p.md")[0] == 0  # not a hit any more
    assert cli("run", artifact_id, "Hi", "--max-tokens", 3)[0] == 0


def test_what_is_no_store_is_not_checked(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no store"):
        check(tmp_path / "none", StoreConfig())
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(PcompilerError):
        check(tmp_path / "file", StoreConfig())
