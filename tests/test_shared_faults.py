"""Stores that share a bucket of a real server that speaks S3, behind a network that misbehaves."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact
from machines import KILLED, Machines, id_of, put
from objects import Fault, Proxy, only

from pcompiler.errors import DamageError, NotFoundError, PcompilerError, RemoteError
from pcompiler.remote import bucket as buckets
from pcompiler.store.db import Store
from pcompiler.store.uploads import uploads

SECRETS = ("sesame", "AKIATESTKEY", "secret of the server")


def test_what_one_machine_stores_another_has(s3_machines: Machines, s3: Proxy) -> None:
    with s3_machines("a") as a:
        put(a, 1, 2)
    b = s3_machines("b")
    assert b.get(id_of(1)) == artifact(1)
    assert b.source(artifact(1).header.prompt_hash) == PROMPT
    before = len(s3.seen)
    assert b.get(id_of(1)) == artifact(1)
    assert len(s3.seen) == before  # the second time nobody is asked


@pytest.mark.parametrize("fault", ["500", "reset", "lost", "truncate"])
def test_a_few_failures_are_not_noticed(s3_machines: Machines, s3: Proxy, fault: Fault) -> None:
    with s3_machines("a") as a:
        s3.twist = only("PUT", "", fault, 2)
        put(a, 1, 2)
    s3.twist = only("GET", "", fault, 2)
    b = s3_machines("b")
    assert b.get(id_of(1)) == artifact(1)
    assert b.get(id_of(2)) == artifact(2)


@pytest.mark.parametrize("fault", ["500", "reset", "hang", "truncate", "flip"])
def test_a_remote_that_goes_on_failing_is_told_in_time_and_nothing_is_stored(
    s3_machines: Machines, s3: Proxy, tmp_path: Path, fault: Fault
) -> None:
    with s3_machines("a") as a:
        put(a, 1)
    b = s3_machines("b", remote_timeout_s=1.0)
    for part in ("/artifacts/", "/bodies/", "/texts/"):
        s3.twist = only("GET", part, fault)
        start = time.monotonic()
        with pytest.raises((RemoteError, DamageError)) as caught:
            b.get(id_of(1))
        assert time.monotonic() - start < 10
        assert not any(secret in str(caught.value) for secret in SECRETS)
    b.close()
    with Store(tmp_path / "b", "read") as alone:
        assert list(alone.headers()) == []
        assert alone.records.get("tensors", id_of(1).encode()) is None
    s3.twist = lambda _method, _path: None
    assert s3_machines("b").get(id_of(1)) == artifact(1)


def test_what_is_here_needs_no_remote_and_a_compile_passes_it_over(
    s3_machines: Machines, s3: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    a = s3_machines("a", remote_close_s=0.0)
    put(a, 1)
    assert a.flush(20) == []
    s3.twist = lambda _method, _path: "500"
    assert a.get(id_of(1)) == artifact(1)
    assert a.find(id_of(2)) is None  # where a compile looks first
    assert "s3://bucket" in caplog.text
    with pytest.raises(RemoteError, match="500"):
        a.header(id_of(2))  # it may be there: this is no answer


def test_a_remote_that_has_failed_is_not_asked_again_for_a_moment(
    s3_machines: Machines, s3: Proxy
) -> None:
    b = s3_machines("b", remote_timeout_s=0.5, remote_absent_s=1.0)
    s3.twist = lambda _method, _path: "hang"
    with pytest.raises(RemoteError, match=r"did not answer in 0\.5 s"):
        b.get(id_of(1))
    asked, start = len(s3.seen), time.monotonic()
    for number in range(100):
        with pytest.raises(RemoteError, match="not asked again"):
            b.get(id_of(number))
    assert time.monotonic() - start < 0.5
    assert len(s3.seen) == asked
    s3.twist = lambda _method, _path: None
    time.sleep(1.0)
    with pytest.raises(NotFoundError):
        b.get(id_of(1))


def test_what_is_not_there_is_asked_for_once_in_a_while(s3_machines: Machines, s3: Proxy) -> None:
    a, b = s3_machines("a"), s3_machines("b", remote_absent_s=1.0)
    for _ in range(50):
        with pytest.raises(NotFoundError, match="no artifact has the id"):
            b.get(id_of(1))
    assert [path[-24:] for method, path in s3.seen if method == "GET"] == [id_of(1)]
    put(a, 1)
    assert a.flush(20) == []
    time.sleep(1.0)
    assert b.get(id_of(1)) == artifact(1)


def test_many_who_ask_for_one_artifact_fetch_it_once(s3_machines: Machines, s3: Proxy) -> None:
    with s3_machines("a") as a:
        put(a, 1)
    s3.seen.clear()
    b, found = s3_machines("b"), list[object]()
    together = threading.Barrier(8)

    def get() -> None:
        together.wait()
        found.append(b.get(id_of(1)))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [artifact(1)] * 8
    assert len([path for method, path in s3.seen if "/bodies/" in path]) == 1


def test_uploads_go_on_until_they_succeed(s3_machines: Machines, s3: Proxy) -> None:
    s3.twist = only("PUT", "", "500")
    a = s3_machines("a")
    put(a, 1, 2, 3)  # acknowledged, whatever the remote does
    while not any(upload.attempts for upload in a.waiting()):
        time.sleep(0.02)
    (first, *_) = [upload for upload in a.waiting() if upload.attempts]
    assert "500" in first.why
    s3.twist = lambda _method, _path: None
    assert a.flush(30) == []
    assert list(a.waiting()) == []
    b = s3_machines("b")
    assert all(b.get(id_of(n)) == artifact(n) for n in (1, 2, 3))


@pytest.mark.parametrize("fault", ["hang", "500", "reset"])
def test_closing_ends_in_time_and_the_next_one_uploads_what_is_left(
    s3_machines: Machines, s3: Proxy, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    s3.twist = only("PUT", "", fault)
    a = s3_machines("a", remote_close_s=1.0)
    put(a, 1, 2)
    start = time.monotonic()
    a.close()
    assert time.monotonic() - start < 4
    assert f"not in {a.bucket.url} yet: " in caplog.text
    s3.twist = lambda _method, _path: None
    with s3_machines("a") as again:
        assert again.flush(20) == []
    assert s3_machines("b").get(id_of(2)) == artifact(2)


def test_what_a_killed_process_had_not_uploaded_is_uploaded_by_the_next(
    s3_machines: Machines, s3: Proxy, tmp_path: Path
) -> None:
    s3.twist = only("PUT", "", "hang")
    code = KILLED.format(
        tests=str(Path(__file__).parent), store=str(tmp_path / "a"), remote=s3_machines.url
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "acknowledged\n"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    with Store(tmp_path / "a", "read") as left:
        waiting = list(uploads(left.records, s3_machines.url))
        assert [u.artifact for u in waiting] == [id_of(n) for n in range(3)]
    s3.twist = lambda _method, _path: None
    with s3_machines("b") as b, pytest.raises(NotFoundError):
        b.get(id_of(1))
    with s3_machines("a") as a:
        assert a.flush(20) == []
        assert list(a.waiting()) == []
    with s3_machines("b") as b:
        assert [b.get(id_of(n)) for n in range(3)] == [artifact(n) for n in range(3)]


def test_bytes_that_were_damaged_on_their_way_up_are_refused_until_they_are_replaced(
    s3_machines: Machines, s3: Proxy
) -> None:
    a, b = s3_machines("a"), s3_machines("b")
    s3.twist = only("PUT", "/bodies/", "flip_sent", 1)
    put(a, 1)
    assert a.flush(20) == []
    with pytest.raises(DamageError, match="its body is damaged"):
        b.get(id_of(1))
    a.push(id_of(1))  # it has the right length: nothing to be seen from here
    with pytest.raises(DamageError):
        b.get(id_of(1))
    a.push(id_of(1), replace=True)
    assert b.get(id_of(1)) == artifact(1)


def test_a_large_body_goes_up_in_parts_and_comes_back_whole(
    s3_machines: Machines, s3: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PART_BYTES", 5 * 2**20)  # the least that S3 takes
    body = os.urandom(12 * 2**20)
    large = artifact(1).__class__(artifact(1, **measures_of(body)).header, body)
    s3.twist = only("PUT", "/bodies/", "reset", 1)
    with s3_machines("a") as a:
        a.put(large, PROMPT, PROBES)
    assert sum("/bodies/" in path for method, path in s3.seen if method == "PUT") >= 3
    assert s3_machines("b").get(id_of(1)) == large


def measures_of(body: bytes) -> dict[str, object]:
    import hashlib

    return {"body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest()}


def test_a_bucket_that_is_not_there_is_told(s3: Proxy, tmp_path: Path) -> None:  # noqa: ARG001
    machines = Machines(tmp_path, "s3://no-such-bucket/x")
    a = machines("a", remote_close_s=0.5)
    with pytest.raises(RemoteError, match="there is no bucket for s3://no-such-bucket/x"):
        a.get(id_of(1))
    machines.close()


def test_nothing_that_is_said_or_kept_has_the_credentials(
    s3_machines: Machines, s3: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = []
    with caplog.at_level(logging.DEBUG):
        for fault in ("500", "reset", "truncate"):
            s3.twist = only("PUT", "", fault)
            a = s3_machines("a", remote_close_s=0.2)
            put(a, 1)
            s3.twist = lambda _method, _path, fault=fault: fault
            try:
                a.get(id_of(9))
            except PcompilerError as e:
                said.append(str(e))
            said += [upload.why for upload in a.waiting()]
            a.close()
    assert len(said) > 3
    text = "".join(said) + caplog.text
    assert "s3://bucket" in text
    assert not any(secret in text for secret in SECRETS)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file())
    assert not any(secret.encode() in kept for secret in SECRETS)
