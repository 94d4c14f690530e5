"""The store keeps what it is given, finds it by id, and says clearly what it does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_artifact import make

from pcompiler.codec.zstd import Codec
from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.errors import NotFoundError, StoreUnavailable
from pcompiler.model import LanguageModel
from pcompiler.store.artifact import Artifact
from pcompiler.store.db import Store
from pcompiler.store.key import artifact_id, content_hash
from pcompiler.store.rocksdb import translating

PROMPT, PROBES = "the prompt é😀", '{"query": "x"}\n'


def artifact(number: int) -> Artifact:
    return make(
        id=f"{number:024x}", prompt_hash=content_hash(PROMPT), probes_hash=content_hash(PROBES)
    )


def test_what_was_put_is_found_with_its_prompt_and_probes(store: Store) -> None:
    stored = artifact(7)
    store.put(stored, PROMPT, PROBES)
    assert store.get(stored.header.id) == stored
    assert store.find(stored.header.id) == stored.header
    assert store.source(stored.header.prompt_hash) == PROMPT
    assert store.probes(stored.header.probes_hash) == PROBES
    assert store.find("f" * 24) is None
    assert store.source("f" * 32) is None


def test_it_is_there_after_reopening(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put(artifact(1), PROMPT, PROBES)
    with Store(tmp_path / "s", access="read") as store:
        assert store.get(artifact(1).header.id) == artifact(1)


def test_the_beginning_of_an_id_is_enough_when_it_is_the_only_one(store: Store) -> None:
    first, second = make(id="abcd" + "0" * 20), make(id="abce" + "0" * 20)
    for a in (first, second):
        header = replace(
            a.header, prompt_hash=content_hash(PROMPT), probes_hash=content_hash(PROBES)
        )
        store.put(Artifact(header, a.body), PROMPT, PROBES)
    assert store.header("abcd").id == first.header.id
    with pytest.raises(NotFoundError, match="no artifact"):
        store.header("abcf")
    with pytest.raises(NotFoundError, match="4 to 24"):
        store.header("abc")
    store.delete("abce")
    store.put(Artifact(replace(header, id="abcd" + "1" * 20), second.body), PROMPT, PROBES)
    with pytest.raises(NotFoundError, match="2 artifacts"):
        store.header("abcd")


def test_headers_are_listed_in_order_and_deleted_ones_are_gone(store: Store) -> None:
    for number in (3, 1, 2):
        store.put(artifact(number), PROMPT, PROBES)
    store.delete(artifact(2).header.id)
    assert [h.id for h in store.headers()] == [artifact(n).header.id for n in (1, 3)]
    with pytest.raises(NotFoundError):
        store.delete(artifact(2).header.id)


def test_a_second_writer_is_told_and_a_reader_is_let_in(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put(artifact(1), PROMPT, PROBES)
        with pytest.raises(StoreUnavailable, match="another process"):
            Store(tmp_path / "s")
        with Store(tmp_path / "s", access="read") as reader:
            assert [h.id for h in reader.headers()] == [artifact(1).header.id]
    with Store(tmp_path / "s") as store:  # the lock goes with the writer
        assert store.find(artifact(1).header.id)


def test_a_mistake_in_the_code_is_not_called_damage(store: Store) -> None:
    with pytest.raises(KeyError):
        store.records.get("artifacts", 3)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        store.records.get("artefacts", b"3")
    with pytest.raises(ZeroDivisionError), translating(store.path):
        _ = 1 / 0


def test_reading_where_there_is_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no store"):
        Store(tmp_path / "none", access="read")
    assert not (tmp_path / "none").exists()


def test_an_address_depends_on_each_of_its_parts() -> None:
    parts = ["kv", "p", "m", "c", "q"]
    ids = {artifact_id(*parts)}
    for i in range(len(parts)):
        changed = [*parts]
        changed[i] += "!"
        ids.add(artifact_id(*changed))
    assert len(ids) == len(parts) + 1
    assert artifact_id(*parts) == artifact_id(*parts)


@pytest.mark.parametrize("changed", [{"zstd_level": -7}, {"zstd_threads": 2}, {"zstd_level": 19}])
@pytest.mark.parametrize("far", [False, True])
def test_artifacts_are_squeezed_as_the_settings_say_and_read_without_them(
    model: LanguageModel, config: Config, tmp_path: Path, changed: dict[str, int], far: bool
) -> None:
    settings = replace(config.store, zstd_long_distance=far, **changed)
    bodies = []
    for chosen in (config, replace(config, store=settings)):
        with Compiler(model=model, store=tmp_path / "store", config=chosen) as compiler:
            done = compiler.compile(PROMPT, target="kv")
        with Store(tmp_path / "store") as store:
            bodies.append(store.get(done.id))
    plain, squeezed = bodies
    assert plain.header.id != squeezed.header.id
    codec = Codec(settings.zstd_level, settings.zstd_threads, far)
    raw = codec.decompress(plain.body, plain.header.tensor_bytes)
    assert squeezed.body == codec.compress(raw)
    tensors = squeezed.tensors()
    assert all(torch.equal(tensors[name], kept) for name, kept in plain.tensors().items())
