"""Artifacts over HTTP: look-ups, tensors, pages, names, deletion, and what a worker sees when."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import safetensors.torch
import serving
import torch
from bare import PROBES, PROMPT, artifact
from serving import Server

from pcompiler.codec import planes, tensors
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, Gone, NotFoundError
from pcompiler.serve.http.artifacts import matches
from pcompiler.serve.http.view import View, shown
from pcompiler.store.artifact import Header
from pcompiler.store.db import Store
from pcompiler.store.engine import Engine

TENSORS = {"accept": "application/octet-stream"}


def listed(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """All pages."""
    found, cursor = [], None
    while True:
        asked = query | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/artifacts", params=asked).json()
        assert len(page["data"]) <= query.get("limit", 50)
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_a_look_up_gives_the_header_as_it_is_stored(served: Server, desk: dict[str, Any]) -> None:
    with served.client() as client, Store(served.store, "read") as store:
        header = store.header(desk["id"])
        found = client.get(f"/v1/artifacts/{header.id}").json()
        record = json.loads(header.record()[16:-32])
        assert found == {**record, "size_bytes": header.size_bytes}


def test_by_id_beginning_and_name_it_is_the_same_to_the_byte(
    served: Server, desk: dict[str, Any]
) -> None:
    with served.client() as client:
        answers = [
            client.get(f"/v1/artifacts/{name}")
            for name in (desk["id"], desk["id"][:10], "desk", "desk:latest")
        ]
    assert len({(a.content, a.headers["etag"]) for a in answers}) == 1
    for name in ("x-content-type-options", "x-frame-options", "referrer-policy", "vary"):
        assert len({a.headers[name] for a in answers}) == 1


def test_what_a_client_has_already_is_not_sent_again(served: Server, desk: dict[str, Any]) -> None:
    with served.client() as client:
        for name in (desk["id"], "desk"):
            for accept in ({}, TENSORS):
                tag = client.get(f"/v1/artifacts/{name}", headers=accept).headers["etag"]
                again = client.get(
                    f"/v1/artifacts/{name}", headers={**accept, "if-none-match": f'"x", W/{tag}'}
                )
                assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
                other = client.get(
                    f"/v1/artifacts/{name}", headers={**accept, "if-none-match": '"x"'}
                )
                assert other.status_code == 200


@pytest.mark.parametrize(
    ("given", "has"),
    [(None, False), ("*", True), ('"a"', True), ('W/"a" , "b"', True), ("a", False)],
)
def test_entity_tags_are_compared_as_http_has_it(given: str | None, has: bool) -> None:
    assert matches(given, '"a"') is has


def test_the_tensors_are_those_of_the_artifact_bit_for_bit(
    served: Server, desk: dict[str, Any]
) -> None:
    with served.client() as client:
        answer = client.get("/v1/artifacts/desk", headers=TENSORS)
        other = client.get("/v1/artifacts/desk", headers={"accept": "application/vnd.safetensors"})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert other.headers["content-type"] == "application/vnd.safetensors"
    assert answer.content == other.content
    with Store(served.store, "read") as store:
        expected = store.get(desk["id"]).tensors()
    found = safetensors.torch.load(answer.content)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)


def test_planes_are_put_together_as_torch_does_it() -> None:
    given = {
        "f32": torch.randn(5, 7),
        "f16": torch.randn(3, 4, 2).half(),
        "bf16": torch.randn(9).bfloat16(),
        "i8": torch.randint(-100, 100, (4, 4)).to(torch.int8),
        "i64": torch.arange(5),
        "empty": torch.zeros(0, 3),
        "bool": torch.tensor([True, False]),
    }
    data = tensors.to_planes(given)
    assert planes.whole(data) == tensors.to_bytes(tensors.from_planes(data))
    for damaged in (b"", data[:5], data[:40], b"\xff" * 40, data[:-3]):
        with pytest.raises(DamageError):
            planes.whole(damaged)


def test_what_is_not_there_is_not_found_in_openais_form_and_without_a_path(
    served: Server, desk: dict[str, Any]
) -> None:
    assert desk
    with served.client() as client:
        for name in ("0" * 24, "0" * 10, "nobody", "no:tag"):
            answer = client.get(f"/v1/artifacts/{name}")
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "not_found"
            assert str(served.store) not in answer.text
        for name in ("..%2F..%2Fetc%2Fpasswd", "a b", "%00", "x" * 200):
            assert client.get(f"/v1/artifacts/{name}").status_code in (400, 404)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A store of 30 artifacts that differ in what lists can be filtered by."""
    folder = tmp_path / "store"
    with Store(folder) as store:
        for number in range(30):
            made = artifact(
                number,
                target="kv" if number % 2 else "text",
                model_name=f"m{number % 3}",
                created=f"2026-01-{number + 1:02d}T00:00:00+00:00",
            )
            store.put(made, PROMPT, PROBES)
        store.point({"desk:one": f"{3:024x}", "desk:two": f"{4:024x}", "other": f"{3:024x}"})
        store.names.pin("other", True)
    return folder


@pytest.fixture
def listing(many: Path, model_folder: Path) -> Any:
    server = serving.start(model_folder, many)
    with server.client() as client:
        yield client
    assert server.stop() == 0


def test_pages_and_filters_name_every_artifact_once(listing: httpx.Client) -> None:
    everything = [f"{n:024x}" for n in range(30)]
    for limit in (1, 7, 29, 30, 31):
        assert [one["id"] for one in listed(listing, limit=limit)] == everything

    def ids(**query: Any) -> list[int]:
        return [int(one["id"], 16) for one in listed(listing, limit=4, **query)]

    assert ids(target="text") == list(range(0, 30, 2))
    assert ids(model="m1", target="kv") == list(range(1, 30, 6))
    assert ids(name="desk") == [3, 4]
    assert ids(name="desk:two") == [4]
    assert ids(name="nobody") == []
    assert ids(created_after="2026-01-10", created_before="2026-01-12T12:00:00") == [9, 10, 11]
    assert ids(prompt_hash="0" * 32) == []
    names = listing.get("/v1/names").json()["data"]
    assert [(n["name"], n["artifact"], n["pinned"]) for n in names] == [
        ("desk:one", f"{3:024x}", False),
        ("desk:two", f"{4:024x}", False),
        ("other:latest", f"{3:024x}", True),
    ]
    for wrong in (
        {"limit": 0},
        {"limit": 1001},
        {"cursor": "x"},
        {"cursor": "Li4v"},
        {"nothing": 1},
    ):
        answer = listing.get("/v1/artifacts", params=wrong)
        assert answer.status_code == 400, wrong
        assert answer.json()["error"]["message"]


def test_deleting_takes_an_artifact_from_all_workers_unless_it_is_pinned(
    listing: httpx.Client,
) -> None:
    gone, pinned = f"{7:024x}", f"{3:024x}"
    assert listing.delete(f"/v1/artifacts/{gone}").status_code == 204
    assert listing.get(f"/v1/artifacts/{gone}").status_code == 404
    assert listing.delete(f"/v1/artifacts/{gone}").status_code == 404
    answer = listing.delete(f"/v1/artifacts/{pinned}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "pinned")
    assert listing.get(f"/v1/artifacts/{pinned}").status_code == 200


def test_a_view_sees_at_once_what_it_is_asked_for_and_did_not_know(tmp_path: Path) -> None:
    async def follow() -> None:
        view = View(tmp_path, StoreConfig())
        with pytest.raises(Gone):
            view.record("0" * 24)
        with Store(tmp_path) as store, view:
            for number in range(1, 6):
                name = f"{number:024x}"
                store.put(artifact(number), PROMPT, PROBES)
                if number > 1:  # the view is open, and behind
                    assert view.record(name) is None
                assert (await view.header(name)).id == name
                record = view.record(name)
                assert record is not None
                size = Header.parse(record)[0].size_bytes
                assert json.loads(shown(record))["size_bytes"] == size

    asyncio.run(follow())


def test_a_view_that_is_opened_while_the_store_is_being_made_sees_all_of_it(tmp_path: Path) -> None:
    async def follow() -> None:
        with View(tmp_path, StoreConfig()) as view:
            half = Engine(tmp_path, ("artifacts", "metadata"), "write", StoreConfig())
            with half, pytest.raises(Gone):
                view.record("0" * 24)
            with Store(tmp_path) as store:
                store.put(artifact(1), PROMPT, PROBES)
                store.point({"desk": f"{1:024x}"})
                assert (await view.header("desk")).id == f"{1:024x}"

    asyncio.run(follow())


def test_a_flood_of_unknown_ids_has_the_view_catch_up_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[float] = []
    real = Store.catch_up

    def counted(store: Store) -> None:
        caught.append(time.monotonic())
        real(store)

    async def flood(view: View) -> None:
        for _ in range(3):
            asked = (view.header(f"{n:024x}") for n in range(100, 200))
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(one, NotFoundError) for one in found)

    monkeypatch.setattr(Store, "catch_up", counted)
    with Store(tmp_path) as store:
        store.put(artifact(1), PROMPT, PROBES)
        with View(tmp_path, StoreConfig()) as view:
            asyncio.run(flood(view))
    assert 1 <= len(caught) <= 4
    assert all(b - a >= 0.045 for a, b in pairwise(caught))
