"""What a remote's metrics say of reading through and uploading, beside a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact
from machines import Machines, id_of, put
from objects import Proxy, only
from reading import Reading

from pcompiler import meter
from pcompiler.errors import DamageError, NotFoundError, RemoteError
from pcompiler.serve.metrics import Exporter
from pcompiler.store.artifact import Artifact
from pcompiler.store.db import Store


@pytest.fixture
def reading() -> Iterator[Reading]:
    meter.attach(exporter := Exporter())
    yield Reading(exporter)
    meter.attach(None)


def size_of(*stored: Artifact) -> int:
    """Bytes of all objects of artifacts that share a prompt and probes."""
    texts = len(PROMPT.encode()) + len(PROBES.encode())
    return texts + sum(len(one.header.record()) + len(one.body) for one in stored)


def test_uploads_move_by_what_was_sent_and_what_waits(
    s3_machines: Machines, s3: Proxy, reading: Reading
) -> None:
    """pcompiler_remote_upload_seconds, pcompiler_remote_bytes_total, pcompiler_remote_waiting"""
    a = s3_machines("a")
    s3.twist = only("PUT", "/artifacts/", "500", 3)  # obstore's own tries and one of ours
    with reading.watching():
        put(a, 1, 2)
        assert a.flush(30) == []
    assert reading.change("remote_upload_seconds", "_count", result="done") == 2
    assert reading.change("remote_upload_seconds", "_count", result="failed") == 1
    assert reading.change("remote_upload_seconds", "_sum", result="done") > 0
    assert reading.change("remote_upload_seconds", "_count", result="given_up") == 0
    assert reading.change("remote_bytes", side="written") == size_of(artifact(1), artifact(2))
    assert reading.value("remote_waiting") == 0


def test_what_cannot_be_sent_waits_and_what_is_damaged_here_is_given_up(
    s3_machines: Machines, s3: Proxy, reading: Reading, tmp_path: Path
) -> None:
    s3.twist = only("", "", "hang")
    a = s3_machines("a", remote_close_s=0.0)
    with reading.watching():
        put(a, 1, 2, 3)
    assert reading.value("remote_waiting") == 3
    with reading.watching():
        a.close()
    assert reading.value("remote_waiting") == 0  # in this process
    s3.twist = lambda _method, _path: None
    with Store(tmp_path / "a") as alone:
        alone.records.put("tensors", id_of(2).encode(), b"not what it was")
    with reading.watching(), s3_machines("a") as again:
        assert again.flush(20) == []
    assert reading.change("remote_upload_seconds", "_count", result="done") == 2
    assert reading.change("remote_upload_seconds", "_count", result="given_up") == 1


def test_reads_move_by_how_they_ended(s3_machines: Machines, s3: Proxy, reading: Reading) -> None:
    """pcompiler_remote_read_seconds"""
    with s3_machines("a") as a:
        put(a, 1, 2, 3)
    b = s3_machines("b", remote_timeout_s=1.0)
    with reading.watching():
        with pytest.raises(NotFoundError, match="several"):
            b.get("0000")
        b.get(id_of(1))
        b.get(id_of(1))  # is here now, and asks nobody
        with pytest.raises(NotFoundError):
            b.get(id_of(9))
        s3.twist = only("GET", "/bodies/", "flip")
        with pytest.raises(DamageError):
            b.get(id_of(2))
        s3.twist = only("GET", "", "500")
        with pytest.raises(RemoteError):
            b.get(id_of(3))
    assert reading.change("remote_bytes", side="read") >= size_of(artifact(1))
    for result, times in {"hit": 1, "miss": 2, "refused": 1, "failed": 1}.items():
        assert reading.change("remote_read_seconds", "_count", result=result) == times, result
        assert reading.change("remote_read_seconds", "_sum", result=result) > 0
