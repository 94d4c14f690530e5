"""Compiling over HTTP: waiting or not, progress as events, gates, and who goes away."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from serving import Server

from pcompiler.store.db import Store

SLOW = {"queries": [f"What about number {n}?" for n in range(1_000)]}  # a compile of seconds


def body(number: int, **more: Any) -> dict[str, Any]:
    return {"source": f"You are desk number {number} of a shop. We open at nine.", **more}


def test_a_compile_that_is_waited_for_is_done_and_stored(served: Server) -> None:
    with served.client() as client:
        done = client.post("/v1/compile", json=body(1, name="one:a", queries=["When?"]))
        assert done.status_code == 200
        job = done.json()
        assert (job["status"], job["cached"], job["error"]) == ("done", False, None)
        again = client.post("/v1/compile", json=body(1, queries=["When?"])).json()
        assert (again["artifact"], again["cached"]) == (job["artifact"], True)
        header = client.get("/v1/artifacts/one:a").json()
    assert header["id"] == job["artifact"]
    with Store(served.store, "read") as store:
        assert store.source(header["prompt_hash"]) == body(1)["source"]


def test_a_compile_that_is_not_waited_for_is_a_job_with_events(served: Server) -> None:
    with served.client() as client:
        begun = client.post("/v1/compile", json=body(2, wait=False))
        assert begun.status_code == 202
        where = begun.headers["location"]
        assert where == f"/v1/jobs/{begun.json()['id']}"
        told = client.get(where, headers={"accept": "text/event-stream"})
        assert told.headers["content-type"].startswith("text/event-stream")
        events = [block.splitlines() for block in told.text.split("\n\n") if block]
        assert events[-1][0] == "event: done"
        last = json.loads(events[-1][1].removeprefix("data: "))
        assert client.get(where).json() == last
        assert client.get(f"/v1/artifacts/{last['artifact']}").status_code == 200
        over = client.delete(where)
        assert (over.status_code, over.json()["error"]["code"]) == (409, "over")


def test_a_job_can_be_cancelled_and_stores_nothing(served: Server) -> None:
    with served.client() as client:
        first = client.post("/v1/compile", json=body(3, wait=False, **SLOW)).json()
        second = client.post("/v1/compile", json=body(4, wait=False)).json()
        assert client.delete(f"/v1/jobs/{second['id']}").status_code == 200
        for job in (first, second):
            client.get(f"/v1/jobs/{job['id']}", headers={"accept": "text/event-stream"})
        assert client.get(f"/v1/jobs/{second['id']}").json()["status"] == "cancelled"
        assert client.get(f"/v1/jobs/{first['id']}").json()["status"] == "done"


def test_whoever_waits_and_goes_away_takes_the_job_along(served: Server) -> None:
    with served.client() as client:
        busy = client.post("/v1/compile", json=body(5, wait=False, **SLOW)).json()
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/compile", json=body(6), timeout=0.5)
        last = client.post("/v1/compile", json=body(7)).json()  # behind both in line
        first = client.get(f"/v1/jobs/{busy['id']}").json()
    with Store(served.store, "read") as store:
        sources = {store.source(header.prompt_hash) for header in store.headers()}
        assert {store.header(job["artifact"]).id for job in (first, last)}
    assert {body(5)["source"], body(7)["source"]} <= sources
    assert body(6)["source"] not in sources


def test_a_missed_gate_says_so_and_stores_nothing(served: Server) -> None:
    with served.client() as client:
        asked = body(8, target="weights", min_agreement=1.0, max_kl=0.0)
        missed = client.post("/v1/compile", json=asked)
        assert (missed.status_code, missed.json()["error"]["code"]) == (422, "gate_missed")
        listed = client.get("/v1/artifacts", params={"target": "weights"}).json()
    assert listed["data"] == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"source": ""}, "source"),
        ({"source": 3}, "source"),
        ({"target": "magic"}, "target"),
        ({"target": "auto"}, "gate"),
        ({"name": "../../etc/passwd"}, "cannot be a name"),
        ({"name": "abcd"}, "cannot be a name"),
        ({"settings": {"rate": 0.5, "target_tokens": 5}}, "rate"),
        ({"settings": {"rank": 0}}, "rank"),
        ({"settings": {"speed": 9}}, "speed"),
        ({"min_agreement": 1.5}, "min_agreement"),
        ({"queries": ["x"] * 1001}, "queries"),
        ({"path": "/etc/passwd"}, "path"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_any_work(
    served: Server, changed: dict[str, Any], word: str
) -> None:
    with served.client() as client:
        start = time.monotonic()
        refused = client.post("/v1/compile", json=body(9) | changed)
    assert refused.status_code == 400
    assert word in refused.json()["error"]["message"]
    assert time.monotonic() - start < 5


def test_a_prompt_with_more_tokens_than_the_server_takes_is_refused(served: Server) -> None:
    with served.client() as client:
        refused = client.post("/v1/compile", json={"source": "word " * 30_000})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_a_job_that_never_was_is_not_found(served: Server) -> None:
    with served.client() as client:
        for method in ("GET", "DELETE"):
            assert client.request(method, "/v1/jobs/none").status_code == 404


@pytest.mark.model
def test_prompts_are_found_by_meaning_with_their_artifacts(
    served: Server, desk: dict[str, Any]
) -> None:
    with served.client() as client:
        other = client.post("/v1/compile", json={"source": "Translate all that is said to Latin."})
        found = client.post("/v1/search", json={"query": "repairing bikes", "limit": 50}).json()
    hashes = [hit["prompt_hash"] for hit in found["data"]]
    assert desk["prompt_hash"] in hashes
    near = next(hit for hit in found["data"] if hit["prompt_hash"] == desk["prompt_hash"])
    far = next(hit for hit in found["data"] if other.json()["artifact"] in hit["artifacts"])
    assert desk["id"] in near["artifacts"]
    assert near["similarity"] > far["similarity"]
    assert [h["similarity"] for h in found["data"]] == sorted(
        (h["similarity"] for h in found["data"]), reverse=True
    )
