"""What nothing names goes from a remote, and nothing else, whoever writes meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact
from machines import KILLED, Machines, id_of, object_of, put
from objects import Proxy, only

from pcompiler.errors import DamageError, MismatchError, NotFoundError
from pcompiler.remote import parcel
from pcompiler.remote.bucket import Bucket
from pcompiler.remote.parcel import Parcel
from pcompiler.remote.sweep import Swept, sweep
from pcompiler.store.key import content_hash

Cli = Callable[..., tuple[int, str, str]]
DAY_S = 86_400.0
PARCEL = Parcel(artifact(1), (("prompts", PROMPT), ("probes", PROBES)))


def aged(folder: Path, days: float = 2) -> None:
    """Everything in a folder was written so long ago."""
    then = time.time() - days * DAY_S
    for file in folder.rglob("*"):
        os.utime(file, (then, then))


def keys(bucket: Bucket) -> set[str]:
    async def found() -> set[str]:
        return {one.key async for one in bucket.list("v1")}

    return bucket.run(found())


def test_what_a_killed_writer_left_goes_once_it_is_old_and_comes_back_with_the_next(
    s3_machines: Machines, s3: Proxy, tmp_path: Path
) -> None:
    s3.twist = only("PUT", "/artifacts/", "hang")
    code = KILLED.format(
        tests=str(Path(__file__).parent), store=str(tmp_path / "a"), remote=s3_machines.url
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    while not any(method == "PUT" and "/artifacts/" in path for method, path in s3.seen):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    s3.twist = lambda _method, _path: None
    with Bucket(s3_machines.url, 10.0) as bucket:
        left = keys(bucket)
        assert left == parcel.parts_of(artifact(0).header)
        assert sweep(bucket) == Swept(0, 0, 0)  # it might have been at it still
        size = len(artifact(0).body) + len(PROMPT.encode()) + len(PROBES.encode())
        assert sweep(bucket, 0, dry_run=True) == Swept(1, 2, size)
        assert keys(bucket) == left
        assert sweep(bucket, 0) == Swept(1, 2, size)
        assert keys(bucket) == set()
    with s3_machines("a") as a:
        assert a.flush(20) == []
    with s3_machines("b") as b:
        assert [b.get(id_of(n)) for n in range(3)] == [artifact(n) for n in range(3)]


def test_a_sweep_in_the_middle_of_an_upload_takes_nothing(s3_machines: Machines, s3: Proxy) -> None:
    swept = list[Swept]()

    def twist(method: str, path: str) -> None:
        if method == "PUT" and "/artifacts/" in path and not swept:
            with Bucket(s3_machines.url, 10.0) as other:  # body and texts are there, no header yet
                assert len(keys(other)) == 3
                swept.append(sweep(other))

    s3.twist = twist
    with s3_machines("a") as a:
        put(a, 1)
    assert swept == [Swept(0, 0, 0)]
    with s3_machines("b") as b:
        assert b.get(id_of(1)) == artifact(1)
        assert b.source(artifact(1).header.prompt_hash) == PROMPT


class Disturbed(Bucket):
    """Something happens between an upload's body and its header."""

    meanwhile: Callable[[], object]

    async def put(self, key: str, data: bytes, *, fresh: bool = False) -> None:
        if key.startswith(parcel.ARTIFACTS):
            self.meanwhile()
        await super().put(key, data, fresh=fresh)


def test_old_orphans_that_an_upload_comes_upon_are_not_swept_under_it(machines: Machines) -> None:
    with machines("a") as a:
        put(a, 1)
    object_of(machines.folder, artifact(1), parcel.ARTIFACTS).unlink()
    aged(machines.folder)
    with Disturbed(machines.url, 10.0) as bucket, Bucket(machines.url, 10.0) as other:
        assert sweep(other, dry_run=True) == Swept(
            1, 2, sum(map(len, (artifact(1).body, PROMPT.encode(), PROBES.encode())))
        )
        swept = list[Swept]()
        bucket.meanwhile = lambda: swept.append(sweep(other))
        bucket.run(parcel.send(bucket, PARCEL))
    assert swept == [Swept(0, 0, 0)]
    assert machines("b").get(id_of(1)) == artifact(1)


def test_a_removal_that_comes_late_is_noticed_and_undone(machines: Machines) -> None:
    """A sweep had seen an object old, and it was put again before it went."""
    with machines("a") as a:
        put(a, 1)
    aged(machines.folder)
    with Disturbed(machines.url, 10.0) as bucket:
        bucket.meanwhile = object_of(machines.folder, artifact(1)).unlink
        bucket.run(parcel.send(bucket, PARCEL))
    assert machines("b").get(id_of(1)) == artifact(1)


def test_what_was_put_again_after_it_was_looked_at_stays(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machines("a") as a:
        put(a, 1)
    object_of(machines.folder, artifact(1), parcel.ARTIFACTS).unlink()
    aged(machines.folder)
    listed = Bucket.list

    async def then_touched(bucket: Bucket, prefix: str, after: str | None = None) -> object:
        async for found in listed(bucket, prefix, after):
            yield found
        if prefix == parcel.TEXTS:
            object_of(machines.folder, artifact(1)).touch()

    monkeypatch.setattr(Bucket, "list", then_touched)
    with Bucket(machines.url, 10.0) as bucket:
        swept = sweep(bucket)
        assert (swept.bodies, swept.texts) == (0, 2)
        assert keys(bucket) == {parcel.path(parcel.BODIES, artifact(1).header.body_sha256)}


def test_what_one_artifact_names_stays_and_what_was_its_own_goes(machines: Machines) -> None:
    fitting = '{"query": "fitted on"}\n'
    fitted = artifact(3, fit={"probes_hash": content_hash(fitting)})
    with machines("a") as a:
        put(a, 1, 2)
        a.put(fitted, PROMPT, PROBES, fitting)
        assert a.flush(20) == []
        a.delete(id_of(2), everywhere=True)
    stranger = machines.folder / parcel.BODIES / "zz" / "notes.txt"
    stranger.parent.mkdir()
    stranger.write_text("not ours")
    aged(machines.folder)
    with Bucket(machines.url, 10.0) as bucket:
        assert sweep(bucket) == Swept(1, 0, len(artifact(2).body))
    b = machines("b")
    assert (b.get(id_of(1)), b.get(id_of(3))) == (artifact(1), fitted)
    assert b.probes(content_hash(fitting)) == fitting
    with pytest.raises(NotFoundError):
        b.get(id_of(2))
    assert stranger.read_text() == "not ours"


@pytest.mark.parametrize("harm", ["damaged", "newer"])
def test_beside_a_header_that_cannot_be_read_nothing_is_removed_until_it_is_deleted(
    cli: Cli, machines: Machines, harm: str
) -> None:
    with machines("a") as a:
        put(a, 1, 2)
    header = object_of(machines.folder, artifact(1), parcel.ARTIFACTS)
    newer = artifact(1, format=99).header.record()
    header.write_bytes(newer if harm == "newer" else header.read_bytes()[:-1])
    object_of(machines.folder, artifact(2), parcel.ARTIFACTS).unlink()
    aged(machines.folder)
    with Bucket(machines.url, 10.0) as bucket:
        before = keys(bucket)
        with pytest.raises((DamageError, MismatchError), match=f"{id_of(1)}.*nothing was removed"):
            sweep(bucket)
        assert keys(bucket) == before
        remote = ("--remote", machines.url)
        assert cli("store", "delete", id_of(1)[:8], "--everywhere", *remote)[0] in (2, 3)
        code, out, _ = cli("store", "delete", id_of(1), "--everywhere", *remote)
        assert (code, f"deleted {id_of(1)} here and in" in out) == (0, True)
        assert sweep(bucket).bodies == 2


def test_the_command_looks_or_removes_and_leaves_what_is_young(
    cli: Cli, machines: Machines
) -> None:
    with machines("a") as a:
        put(a, 1)
        assert a.flush(20) == []
        a.delete(id_of(1), everywhere=True)
    remote = ("--remote", machines.url)

    def told(*given: object) -> dict[str, object]:
        code, out, err = cli("store", "sweep", *remote, *given, "--json")
        assert (code, err) == (0, "")
        value: dict[str, object] = json.loads(out.splitlines()[-1])
        return value

    assert (told()["bodies"], told()["texts"]) == (0, 0)
    aged(machines.folder, days=0.5)
    assert told("--older-than", 13)["bodies"] == 0
    assert told("--older-than", 11, "--dry-run")["bodies"] == 1
    aged(machines.folder)
    code, out, _ = cli("store", "sweep", *remote)
    assert (code, "removed 1 bodies and 2 texts" in out) == (0, True)
    assert told()["bodies"] == 0
    for wrong in (-1, "nan", "inf"):
        code, _, err = cli("store", "sweep", *remote, "--older-than", wrong)
        assert (code, "0 or more" in err) == (2, True)
