"""What no artifact needs goes, and what was not used for longest; pinned names stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_artifact import make
from test_store import PROBES

from pcompiler.config import StoreConfig
from pcompiler.embed.cache import CONTENT_BYTES, PREFIX_BYTES
from pcompiler.errors import StoreUnavailable
from pcompiler.store import uses
from pcompiler.store.artifact import Artifact
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash
from pcompiler.store.uses import Uses

Cli = Callable[..., tuple[int, str, str]]


def put(store: Store, number: int) -> Artifact:
    prompt = f"prompt {number}"
    made = make(
        id=f"{number:024x}",
        prompt_hash=content_hash(prompt),
        probes_hash=content_hash(PROBES),
        created=f"2026-01-{number:02d}T00:00:00+00:00",
    )
    store.put(made, prompt, PROBES)
    return made


def ids(store: Store) -> list[int]:
    return [int(header.id, 16) for header in store.headers()]


def test_prompts_and_probes_that_no_artifact_needs_are_removed(store: Store) -> None:
    first, second = put(store, 1), put(store, 2)
    store.delete(first.header.id)
    store.records.put("tensors", b"orphan", b"x" * 1000)
    freed = store.gc()
    assert (freed.tensors, freed.prompts, freed.probes) == (1, 1, 0)
    assert freed.record_bytes > 1000
    assert store.source(first.header.prompt_hash) is None
    assert store.source(second.header.prompt_hash) == "prompt 2"
    assert store.get(second.header.id) == second
    assert (store.gc().prompts, store.gc().tensors) == (0, 0)


def test_fitting_probes_of_an_artifact_are_kept(store: Store) -> None:
    fitting = '{"query": "fitted on"}\n'
    made = make(
        id="1" * 24,
        prompt_hash=content_hash("p"),
        probes_hash=content_hash(PROBES),
        fit={"probes_hash": content_hash(fitting)},
    )
    store.put(made, "p", PROBES, fitting)
    assert store.gc().probes == 0
    assert store.probes(content_hash(fitting)) == fitting


def test_the_least_recently_used_go_first_and_pinned_ones_stay(store: Store) -> None:
    sizes = {number: put(store, number).header.size_bytes for number in range(1, 7)}
    store.get(f"{2:024x}")  # now: later than any was made
    store.point({"kept": f"{1:024x}"})
    store.names.pin("kept", True)
    store.point({"loose": f"{3:024x}"})
    gone = store.evict(sum(sizes.values()) - sizes[3] - sizes[4])
    assert [int(header.id, 16) for header in gone] == [3, 4]
    assert ids(store) == [1, 2, 5, 6]
    assert store.names.get("loose").artifact is None
    with pytest.raises(StoreUnavailable, match="pinned"):
        store.evict(1)
    assert ids(store) == [1, 2, 5, 6]


def test_a_store_with_a_limit_makes_room_for_what_comes(tmp_path: Path) -> None:
    with Store(tmp_path / "free") as store:
        size = put(store, 1).header.size_bytes
    limit = StoreConfig(max_bytes=3 * size + size // 2)
    with Store(tmp_path / "s", settings=limit) as store:
        for number in range(1, 6):
            put(store, number)
            assert sum(h.size_bytes for h in store.headers()) <= 3 * size + size // 2
        assert ids(store) == [3, 4, 5]
        put(store, 5)  # again
        assert ids(store) == [3, 4, 5]
    with (
        Store(tmp_path / "s", settings=replace(limit, max_bytes=size // 2)) as store,
        pytest.raises(StoreUnavailable, match="limit"),
    ):
        put(store, 6)


def test_readers_count_as_users_and_the_file_of_uses_stays_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "s") as store:
        put(store, 1)
    with Store(tmp_path / "s", "read") as reader:
        for _ in range(50):
            reader.get(f"{1:024x}")
    kept = Uses(tmp_path / "s")
    before, size = kept.last(), (tmp_path / "s" / uses.USES).stat().st_size
    assert list(before) == [f"{1:024x}"]
    monkeypatch.setattr(uses, "FOLD_BYTES", 100)
    with Store(tmp_path / "s") as store:
        assert store.uses.last() == before
    assert (tmp_path / "s" / uses.USES).stat().st_size < size / 40


def test_the_commands_evict_and_collect(cli: Cli, tmp_path: Path) -> None:
    for hour in ("nine", "ten"):
        (tmp_path / f"{hour}.md").write_text(f"The workshop opens at {hour} on all days.")
        cli("compile", tmp_path / f"{hour}.md", "--name", hour)
    assert cli("store", "evict")[0] == 2
    one = json.loads(cli("store", "show", "ten", "--json")[1])["size_bytes"]
    assert cli("store", "pin", "nine")[0] == 0
    code, out, _ = cli("store", "evict", "--max-bytes", one + one // 2, "--json")
    assert (code, len(json.loads(out)["evicted"])) == (0, 1)
    assert cli("run", "nine", "Hi", "--max-tokens", 3)[0] == 0
    assert cli("run", "ten", "Hi", "--max-tokens", 3)[0] == 2
    code, out, _ = cli("store", "gc", "--json")
    assert (code, json.loads(out)["prompts"]) == (0, 0)  # evict has collected them


def test_vectors_of_texts_that_are_not_here_go_and_damaged_ones_are_not_there(
    store: Store,
) -> None:
    made = put(store, 1)
    mine = b"encoder1" + bytes.fromhex(made.header.prompt_hash)
    other = b"encoder1" + bytes.fromhex(content_hash("no prompt"))
    store.add_vectors({mine: b"vector", other: b"vector"})
    assert len(mine) == PREFIX_BYTES + CONTENT_BYTES
    assert store.gc().embeddings == 1
    assert store.vectors([mine, other]) == [b"vector", None]
    store.records.engine.write([("embeddings", mine, b"junk"), ("embeddings", other, b"junk")])
    assert store.vectors([mine, other]) == [None, None]
    assert list(store.all_vectors(b"encoder")) == []
    store.add_vectors({mine: b"again"})
    assert store.vectors([mine]) == [b"again"]
