"""Workers that are killed, and a server that is told to stop: others go on, answers end."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import serving
from bare import PROBES, PROMPT, artifact
from serving import Server

from pcompiler.store.db import Store

BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)


def asks(server: Server, stop: threading.Event, path: str) -> tuple[int, int, list[str]]:
    """Look-ups until told to stop: answered, broken off, and whatever else went wrong."""
    answered, broken, wrong = 0, 0, []
    with server.client() as client:
        while not stop.is_set():
            try:
                answer = client.get(path)
                if answer.status_code == 200 and answer.json()["id"] == path.rpartition("/")[2]:
                    answered += 1
                else:
                    wrong.append(answer.text)
            except BROKEN:  # noqa: PERF203
                broken += 1
    return answered, broken, wrong


def until_there_are(server: Server, count: int, without: int = 0) -> None:
    end = time.monotonic() + 60
    while len(server.workers) != count or without in server.workers:
        assert time.monotonic() < end, server.workers
        time.sleep(0.1)


def test_a_worker_that_is_killed_under_load_breaks_its_own_requests_and_is_replaced(
    model_folder: Path, tmp_path: Path
) -> None:
    with Store(tmp_path / "store") as store:
        store.put(artifact(1), PROMPT, PROBES)
    server = serving.start(model_folder, tmp_path / "store", workers=2)
    path, stop = f"/v1/artifacts/{1:024x}", threading.Event()
    until_there_are(server, 2)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(asks, server, stop, path) for _ in range(8)]
        try:
            time.sleep(1)
            victim = server.workers[0]
            os.kill(victim, signal.SIGKILL)
            until_there_are(server, 2, without=victim)
            time.sleep(1)
        finally:
            stop.set()  # the pool waits for them, whatever went wrong
        results = [one.result() for one in asking]
    assert sum(answered for answered, _, _ in results) > 100
    assert all(broken <= 3 for _, broken, _ in results), results  # the others went on
    assert not [text for _, _, wrong in results for text in wrong]
    assert server.process.poll() is None
    with server.client() as client:
        assert client.get(path).status_code == 200
    assert server.stop() == 0


def test_the_service_goes_on_when_a_worker_is_killed_twice_within_seconds(own: Server) -> None:
    for _ in range(2):
        (victim,) = own.workers
        os.kill(victim, signal.SIGKILL)
        until_there_are(own, 1, without=victim)
    serving.ready(own)
    assert own.process.poll() is None
    assert own.stop() == 0


@pytest.fixture
def own(model_folder: Path, tmp_path: Path) -> Any:
    server = serving.start(model_folder, tmp_path / "store", drain_s=20.0)
    yield server
    server.stop()


def test_told_to_stop_it_ends_the_answers_under_way_and_takes_no_more(own: Server) -> None:
    body = {"model": "desk", "messages": [{"role": "user", "content": "?"}], "max_tokens": 400}
    with own.client() as client:
        compiled = client.post("/v1/compile", json={"source": "You sell bikes.", "name": "desk"})
        assert compiled.status_code == 200
        events: list[str] = []
        with client.stream(
            "POST", "/v1/chat/completions", json=body | {"stream": True, "temperature": 2.0}
        ) as answer:
            lines = answer.iter_lines()
            events.append(next(lines))
            own.process.send_signal(signal.SIGTERM)
            events += lines
        assert [e for e in events if e][-1] == "data: [DONE]"
        last = json.loads([e for e in events if e][-2].removeprefix("data: "))
        assert last["choices"][0]["finish_reason"] in ("stop", "length")
        assert own.process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{own.url}/healthz")
    with Store(own.store, "read") as store:
        assert store.header("desk").id == compiled.json()["artifact"]


def test_connections_that_only_wait_do_not_hold_it_up(own: Server) -> None:
    with own.client() as client:
        assert client.get("/healthz").status_code == 200
        start = time.monotonic()
        own.process.send_signal(signal.SIGTERM)
        assert own.process.wait(30) == 0
    assert time.monotonic() - start < 10
