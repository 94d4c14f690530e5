"""Stores that share a remote: a folder here; see ``test_shared_faults`` for a server."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact
from machines import Machines, id_of, object_of, put

from pcompiler.compiler import Compiler
from pcompiler.config import Config, StoreConfig
from pcompiler.errors import (
    NotFoundError,
    StoreUnavailable,
)
from pcompiler.model import LanguageModel
from pcompiler.remote import opened, parcel
from pcompiler.store.artifact import Artifact
from pcompiler.store.check import check
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash

DESK = "You are the desk of a workshop. It opens at nine."


def test_what_one_machine_stores_another_has(machines: Machines) -> None:
    with machines("a") as a:
        put(a, 1)
    b = machines("b")
    assert b.get(id_of(1)) == artifact(1)
    assert b.source(artifact(1).header.prompt_hash) == PROMPT
    assert b.probes(artifact(1).header.probes_hash) == PROBES
    assert [h.id for h in b.headers()] == [id_of(1)]
    assert list(b.waiting()) == []  # what came from there need not go there


def test_what_was_fetched_is_here_without_the_remote(machines: Machines, tmp_path: Path) -> None:
    with machines("a") as a:
        put(a, 1)
    with machines("b") as b:
        b.get(id_of(1))
    with Store(tmp_path / "b", "read") as alone:
        assert alone.get(id_of(1)) == artifact(1)
    assert check(tmp_path / "b", StoreConfig()).damage == []


def test_one_machine_compiles_and_the_other_runs_it_without(
    model: LanguageModel, config: Config, machines: Machines, tmp_path: Path
) -> None:
    url = machines.url
    with Compiler(model, store=tmp_path / "a", remote=url, config=config) as here:
        done = here.compile(DESK, name="desk")
        with here.session("desk") as session:
            said = session.generate("When?", max_tokens=6)
    with Compiler(model, store=tmp_path / "b", remote=url, config=config) as there:
        again = there.compile(DESK, name="desk")  # names are each machine's own
        assert (again.cached, again.header) == (True, done.header)
        with there.session("desk") as session:
            assert session.generate("When?", max_tokens=6) == said
    with Compiler(model, store=tmp_path / "c", remote=url, config=config) as by_id:
        by_id.session(done.id[:8]).close()
        assert by_id.store.header(done.id).timing == done.header.timing  # which came afterwards


def test_the_beginning_of_an_id_is_enough_where_only_one_begins_so(machines: Machines) -> None:
    ids = ["abcd1" + "0" * 19, "abcd2" + "0" * 19]
    with machines("a") as a:
        for name in ids:
            a.put(artifact(1, id=name), PROMPT, PROBES)
    b = machines("b")
    with pytest.raises(NotFoundError, match="several artifacts"):
        b.header("abcd")
    assert b.header("abcd2").id == ids[1]
    with pytest.raises(NotFoundError, match="no artifact has the id 'abcf'"):
        b.header("abcf")


def test_deleting_here_leaves_it_there_unless_told(machines: Machines) -> None:
    a, b, c = (machines(name) for name in "abc")
    put(a, 1, 2)
    assert a.flush(20) == []
    a.delete(id_of(1))
    a.delete(id_of(2), everywhere=True)
    assert b.get(id_of(1)) == artifact(1)
    with pytest.raises(NotFoundError):
        b.get(id_of(2))
    assert a.get(id_of(1)) == artifact(1)  # it comes back when it is asked for
    c.delete(id_of(1), everywhere=True)  # which c never had
    with pytest.raises(NotFoundError):
        c.get(id_of(1))


def test_what_is_evicted_comes_back_with_its_names(machines: Machines, tmp_path: Path) -> None:
    a = machines("a")
    put(a, 1)
    a.point({"one": id_of(1)})
    assert a.flush(20) == []
    assert [h.id for h in a.evict(0)] == [id_of(1)]
    assert a.find("f" * 24) is None
    assert list(Store.headers(a)) == []
    assert a.get("one") == artifact(1)
    a.evict(0)
    a.close()
    assert check(tmp_path / "a", machines.settings("a")).damage == []  # a name may wait for it


def test_what_is_not_there_yet_is_not_evicted(machines: Machines) -> None:
    a = machines("a", remote_close_s=0.0)
    with machines.away():
        put(a, 1)
        with pytest.raises(StoreUnavailable, match="to be uploaded"):
            a.evict(0)
    a.flush(20)
    assert [h.id for h in a.evict(0)] == [id_of(1)]


def test_two_writers_of_one_artifact_do_not_disturb_each_other(machines: Machines) -> None:
    stores = [machines(name) for name in "abcd"]
    both = threading.Barrier(len(stores))

    def write(store: Store) -> None:
        both.wait()
        put(store, *range(20))

    threads = [threading.Thread(target=write, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.flush(30) for store in stores] == [[]] * len(stores)
    reader = machines("reader")
    assert all(reader.get(id_of(n)) == artifact(n) for n in range(20))


def test_writers_whose_bytes_differ_leave_a_whole_artifact(machines: Machines) -> None:
    """The same inputs on unlike machines: bodies differ, and so do the headers that name them."""
    made = [artifact(1), replace_body(artifact(1), artifact(2))]
    for name, one in zip("ab", made, strict=True):
        with machines(name) as store:
            store.put(one, PROMPT, PROBES)
    assert machines("c").get(id_of(1)) == made[1]


def replace_body(one: Artifact, other: Artifact) -> Artifact:
    told = {name: getattr(other.header, name) for name in ("body_bytes", "body_sha256")}
    return Artifact(replace(one.header, tensor_bytes=other.header.tensor_bytes, **told), other.body)


def test_texts_need_no_dictionary_there_and_get_the_readers_own(machines: Machines) -> None:
    from pcompiler.codec import dictionary

    samples = [f"{DESK} The number {n} is on the shelf {n % 7}." for n in range(200)]
    long = " ".join(samples[:40])
    stored = artifact(1, prompt_hash=content_hash(long))
    for name in "ab":
        with machines(name) as store:
            store.add_dictionary(dictionary.train([s.encode() for s in samples], 4096))
    with machines("a") as a:
        a.put(stored, long, PROBES)
    assert object_of(machines.folder, stored, parcel.TEXTS).read_text() == long
    b = machines("b")
    b.get(id_of(1))
    assert b.source(content_hash(long)) == long
    assert [uses for _, uses in b.dictionaries()] == [1]


def test_an_artifact_whose_prompt_is_gone_works_without(machines: Machines) -> None:
    with machines("a") as a:
        put(a, 1)
    object_of(machines.folder, artifact(1), parcel.TEXTS).unlink()
    b = machines("b")
    assert b.get(id_of(1)) == artifact(1)
    assert b.source(artifact(1).header.prompt_hash) is None


def test_a_journal_is_for_its_own_remote(machines: Machines, tmp_path: Path) -> None:
    a = machines("a", remote_close_s=0.0)
    with machines.away():
        put(a, 1)
        a.close()
    other = tmp_path / "other"
    other.mkdir()
    with opened(replace(machines.settings("a"), remote=other.as_uri())) as elsewhere:
        assert elsewhere.find(id_of(1)) is not None
    assert list(other.iterdir()) == []
    machines("a").close()
    assert machines("b").get(id_of(1)) == artifact(1)


def test_without_uploads_left_nothing_is_said(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), machines("a") as a:
        put(a, *range(5))
    assert caplog.text == ""
