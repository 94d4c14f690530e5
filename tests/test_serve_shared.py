"""A server with a remote: it answers for what another machine compiled, and for nothing else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import serving
from machines import Machines, id_of, object_of
from objects import Proxy
from processes import run, settings
from serving import Server

from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.errors import NotFoundError
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Compiled
from pcompiler.serve.client import Client
from pcompiler.serve.supervisor import Supervisor

DESK = "You are the desk of a workshop. It opens at nine and closes at five."


@pytest.fixture
def elsewhere(model_folder: Path, config: Config, machines: Machines, tmp_path: Path) -> Compiled:
    """What another machine has compiled."""
    loaded = LanguageModel.load(str(model_folder), "cpu")
    with Compiler(loaded, store=tmp_path / "else", remote=machines.url, config=config) as compiler:
        return compiler.compile(DESK)


@pytest.fixture
def server(model_folder: Path, machines: Machines, tmp_path: Path) -> Iterator[Server]:
    made = serving.start(model_folder, tmp_path / "store", machines.url, rate=0.0)
    with made.client() as client:
        while client.get("/readyz").status_code != 200:  # its store is made
            time.sleep(0.1)
    yield made
    assert made.stop() == 0


def test_a_server_answers_for_what_another_machine_compiled(
    server: Server, elsewhere: Compiled
) -> None:
    with server.client() as client:
        shown = client.get(f"/v1/artifacts/{elsewhere.id}")
        assert shown.status_code == 200, shown.text
        assert shown.json()["id"] == elsewhere.id
        tensors = client.get(
            f"/v1/artifacts/{elsewhere.id}", headers={"accept": "application/octet-stream"}
        )
        assert len(tensors.content) > 0
        body = {"model": elsewhere.id, "messages": [{"role": "user", "content": "When?"}]}
        said = client.post("/v1/chat/completions", json={**body, "max_tokens": 4})
        assert said.status_code == 200, said.text
        assert said.json()["system_fingerprint"] == elsewhere.id
        given = {"source": DESK, "name": "desk"}  # names are this server's own
        again = client.post("/v1/compile", json=given).json()
        assert (again["artifact"], again["cached"]) == (elsewhere.id, True)
        named = client.post("/v1/chat/completions", json={**body, "model": "desk", "max_tokens": 4})
        assert named.json()["choices"] == said.json()["choices"]
        told = client.get("/metrics/storage").text
        assert 'pcompiler_remote_read_seconds_count{result="hit"} 1.0' in told
        assert "pcompiler_remote_waiting 0.0" in told


def test_the_beginning_of_an_id_and_a_chat_by_it_are_enough(
    server: Server, elsewhere: Compiled
) -> None:
    with server.client() as client:
        body = {"model": elsewhere.id[:8], "messages": [{"role": "user", "content": "When?"}]}
        said = client.post("/v1/chat/completions", json={**body, "max_tokens": 4})
        assert said.status_code == 200, said.text
        assert client.get("/v1/artifacts/ffffffff").status_code == 404


def test_what_is_damaged_there_is_not_served(
    server: Server, elsewhere: Compiled, machines: Machines, tmp_path: Path
) -> None:
    from pcompiler.store.db import Store

    with Store(tmp_path / "else", "read") as store:
        body = object_of(machines.folder, store.get(elsewhere.id))
    body.write_bytes(body.read_bytes()[:-1])
    with server.client() as client:
        refused = client.get(f"/v1/artifacts/{elsewhere.id}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "damaged")
        assert client.get("/v1/artifacts").json()["data"] == []


def test_deleting_leaves_it_there_unless_it_goes_everywhere(
    server: Server, elsewhere: Compiled, machines: Machines
) -> None:
    at = f"/v1/artifacts/{elsewhere.id}"
    with server.client() as client:
        assert client.get(at).status_code == 200
        assert client.delete(at).status_code == 204
        assert client.get(at).status_code == 200
        assert client.delete(at, params={"everywhere": True}).status_code == 204
        assert client.get(at).status_code == 404
    with pytest.raises(NotFoundError):
        machines("third").get(elsewhere.id)


def test_look_ups_of_what_is_not_there_do_not_slow_down_those_of_what_is(
    model_folder: Path, s3: Proxy, tmp_path: Path
) -> None:
    """The remote hangs. A flood of unknown ids is cut off, and nobody else has to wait."""
    server = serving.start(model_folder, tmp_path / "store", "s3://bucket/hangs", rate=0.0)
    try:
        with server.client() as client:
            done = client.post("/v1/compile", json={"source": DESK})
            known = f"/v1/artifacts/{done.json()['artifact']}"
            s3.twist = lambda _method, _path: "hang"
            alone = [timed(client, known) for _ in range(50)]
            with ThreadPoolExecutor(32) as pool:
                flood = [pool.submit(unknown, server, n) for n in range(200)]
                beside = [timed(client, known) for _ in range(50)]
                answers = [one.result() for one in flood]
        assert {status for status, _ in answers} <= {429, 503}
        assert all(took < 10 for _, took in answers)  # a time-out of the remote has 2 s
        assert statistics.median(beside) < max(20 * statistics.median(alone), 0.2)
        assert len([path for method, path in s3.seen if method == "GET"]) < 100
    finally:
        server.stop()


def timed(client: httpx.Client, path: str) -> float:
    start = time.perf_counter()
    assert client.get(path).status_code == 200
    return time.perf_counter() - start


def unknown(server: Server, number: int) -> tuple[int, float]:
    start = time.perf_counter()
    with server.client() as client:
        status = client.get(f"/v1/artifacts/{id_of(number)}").status_code
    return status, time.perf_counter() - start


def test_the_real_processes_fetch_and_upload(
    endless_folder: Path, machines: Machines, config: Config, tmp_path: Path
) -> None:
    from dataclasses import replace

    loaded = LanguageModel.load(str(endless_folder), "cpu")
    with Compiler(loaded, store=tmp_path / "a", remote=machines.url, config=config) as compiler:
        made = compiler.compile(DESK)
    given = settings(endless_folder, tmp_path / "b")
    given = replace(given, store=replace(given.store, remote=machines.url))

    async def work(client: Client) -> Any:
        from processes import answer, chat, compiled

        assert not await client.fetch("f" * 24)
        assert await client.fetch(made.id)
        assert (await answer(client, chat(artifact=made.id, max_tokens=4)))[0]
        return await compiled(client, settings={"bits": 8})

    with Supervisor(given, tmp_path / "run") as supervisor:
        supervisor.wait_ready()
        job = run(work(Client(supervisor.folder)))
    assert job.status == "done"
    assert machines("c").get(job.artifact).header.id == job.artifact  # uploaded before the end


def test_a_server_whose_remote_cannot_be_does_not_start(cli: Any, tmp_path: Path) -> None:
    missing = (tmp_path / "missing").as_uri()
    code, _, err = cli("serve", "--remote", missing, "--port", 0)
    assert (code, "there is no folder at" in err) == (2, True)
