"""What the server refuses, and what it never tells: keys, hosts, origins, kinds, and floods."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import serving
from serving import Server

from pcompiler.serve.http.page import FILES

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"
POST = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def keyed(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two keys and tight limits."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = folder / "keys"
    keys.write_text(f"alice:{ALICE}\nbob:{BOB}\n")
    keys.chmod(0o600)
    limits = {"rate": 0.2, "burst": 3, "concurrency": 2, "read_rate": 1.0, "read_burst": 60}
    server = serving.start(
        model_folder, folder / "store", api_key_file=str(keys), body_bytes=20_000, **limits
    )
    yield server
    assert server.stop() == 0


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_without_a_key_nothing_is_told_but_that_the_server_is_there(keyed: Server) -> None:
    with keyed.client() as client:
        for path in ("/healthz", "/openapi.json", "/"):
            assert client.get(path).status_code == 200
        for headers in ({}, bearer("alice"), bearer(ALICE + "x"), {"authorization": ALICE}):
            for method, path in (
                ("GET", "/v1/artifacts"),
                ("GET", f"/v1/artifacts/{'0' * 24}"),
                ("GET", "/v1/names"),
                ("GET", "/v1/nothing"),
                ("GET", "/metrics"),
                ("POST", "/v1/compile"),
                ("DELETE", f"/v1/artifacts/{'0' * 24}"),
            ):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401, (headers, path)
                assert answer.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{keyed.url}/v1", api_key="no", max_retries=0).models.list()


def test_a_key_opens_and_its_rate_is_its_own(keyed: Server) -> None:
    with keyed.client() as client:
        statuses = []
        for _ in range(5):
            answer = client.post("/v1/compile", json={"source": "x"}, headers=bearer(BOB))
            statuses.append(answer.status_code)
        assert statuses[:3] == [200, 200, 200]
        assert statuses[-1] == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        assert answer.json()["error"]["type"] == "rate_limit_error"
        other = client.post("/v1/compile", json={"source": "x"}, headers=bearer(ALICE))
        assert other.status_code == 200


def test_look_ups_have_a_rate_too(keyed: Server) -> None:
    with keyed.client() as client:
        asked = [client.get("/v1/artifacts", headers=bearer(BOB)).status_code for _ in range(80)]
    assert set(asked) == {200, 429}
    assert asked.count(200) >= 60


def test_keys_are_in_no_log_and_no_answer(keyed: Server, capfd: pytest.CaptureFixture[str]) -> None:
    with keyed.client() as client:
        texts = [
            client.get(path, headers=bearer(ALICE)).text
            for path in ("/v1/artifacts", "/metrics", "/openapi.json", f"/v1/artifacts/{ALICE}")
        ]
    assert not any(ALICE in text.replace(f"'{ALICE}'", "") for text in texts)
    assert ALICE not in "".join(capfd.readouterr())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3000", "127.0.0.1.evil.example"])
def test_another_host_name_is_refused_on_every_path(served: Server, host: str) -> None:
    with served.client(headers={"host": host}) as client:
        for path in ("/healthz", "/", "/v1/artifacts", f"/v1/artifacts/{'0' * 24}", "/metrics"):
            assert client.get(path).status_code == 421


def test_pages_of_other_sites_change_nothing(served: Server) -> None:
    with served.client(headers={"origin": "http://evil.example"}) as client:
        assert client.post("/v1/compile", json={"source": "x"}).status_code == 403
        assert client.delete(f"/v1/artifacts/{'0' * 24}").status_code == 403
        answer = client.get("/v1/artifacts")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    with served.client() as client:
        assert client.options("/v1/compile").status_code == 405


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/artifacts", "/nothing", "/metrics"])
def test_every_answer_has_security_headers(served: Server, path: str) -> None:
    with served.client() as client:
        headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_has_a_strict_policy_and_no_other_file_is_served(served: Server) -> None:
    with served.client() as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        for name, kind in FILES.items():
            assert client.get(f"/page/{name}").headers["content-type"] == kind
            assert b"innerHTML" not in client.get(f"/page/{name}").content
        for path in (
            "/page/..%2fworker.py",
            "/page/worker.py",
            "/page/",
            "/page/%00",
            "/page/../x",
        ):
            assert client.get(path).status_code == 404, path


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({}, b"{}", 415),
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"source=x", 415),
        (POST, b"", 400),
        (POST, b"{", 400),
        (POST, b"\xff", 400),
        (POST, b'"' + b"x" * 100, 400),
        (POST, b"[" * 10_000, 400),
        (POST, b'{"a":' * 100_000, 400),
        (POST, b'{"source": ' + b"9" * 5_000 + b"}", 400),
        (POST, b'{"source": "\\ud800"}', 400),
        (POST, b'{"source": "x", "min_agreement": NaN}', 400),
        (POST, b'{"source": "x", "min_agreement": 1e999}', 400),
        (POST, b"null", 400),
    ],
)
def test_bodies_that_are_none_are_refused_in_one_form(
    served: Server, headers: dict[str, str], content: bytes, status: int
) -> None:
    with served.client() as client:
        for path in ("/v1/compile", "/v1/chat/completions", "/v1/embeddings", "/v1/search"):
            answer = client.post(path, content=content, headers=headers)
            assert answer.status_code == status, (path, answer.text)
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_over_the_limit_is_refused(keyed: Server) -> None:
    with keyed.client() as client:
        large = client.post("/v1/compile", content=b"x" * 20_001, headers={**POST, **bearer(ALICE)})
    assert large.status_code == 413


def test_slow_and_idle_clients_keep_nobody_out(model_folder: Path, tmp_path: Path) -> None:
    server = serving.start(model_folder, tmp_path / "store", header_s=1.0, body_s=1.0)
    host, port = server.url.removeprefix("http://").split(":")
    begun = [
        b"",
        b"GET /healthz HT",
        b"POST /v1/compile HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    ]
    connections = [socket.create_connection((host, int(port))) for _ in range(300)]
    try:
        for number, connection in enumerate(connections):
            connection.sendall(begun[number % 3])
        start = time.monotonic()
        with server.client() as client:
            for _ in range(20):
                assert client.get("/healthz").status_code == 200
        assert time.monotonic() - start < 5
        for connection in connections:
            connection.settimeout(10)
            answer = connection.recv(2**16)
            assert not answer or answer.startswith(b"HTTP/1.1 408")
    finally:
        for connection in connections:
            connection.close()
        assert server.stop() == 0


def test_more_than_the_model_takes_on_is_refused_at_once_and_the_rest_answered(
    served: Server, desk: dict[str, Any]
) -> None:
    body = {"model": desk["id"], "messages": [{"role": "user", "content": "?"}], "max_tokens": 200}

    def ask(_: int) -> tuple[int, str | None]:
        with served.client() as client:
            answer = client.post("/v1/chat/completions", json=body)
            return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(40)))
    assert {status for status, _ in answers} == {200, 429}
    assert all((after is not None) == (status == 429) for status, after in answers)


def test_a_client_that_goes_away_frees_its_place(served: Server, desk: dict[str, Any]) -> None:
    body = {
        "model": desk["id"],
        "messages": [{"role": "user", "content": "?"}],
        "max_tokens": 1_500,
        "stream": True,
        "temperature": 2.0,
    }
    with served.client() as client:
        for _ in range(20):  # more than may wait
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                assert answer.status_code == 200
                next(answer.iter_lines())
        body |= {"stream": False, "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_a_worker_imports_no_torch() -> None:
    code = (
        "import sys, pcompiler.serve.http.server\n"
        "found = {'torch', 'transformers', 'numpy.random'} & set(sys.modules)\n"
        "assert not {'torch', 'transformers'} & found, found"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_metrics_of_requests_move_by_what_was_asked(served: Server, desk: dict[str, Any]) -> None:
    def read(client: httpx.Client) -> dict[str, float]:
        lines = client.get("/metrics/serving").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("pcompiler_http_"))
        return {name: float(value) for name, value in pairs}

    def requests(route: str, status: str, method: str = "GET") -> float:
        labels = f'method="{method}",route="{route}",status="{status}"'
        name = f"pcompiler_http_requests_total{{{labels}}}"
        return after[name] - before.get(name, 0)

    def timed(route: str) -> float:
        name = f'pcompiler_http_seconds_count{{route="{route}"}}'
        return after[name] - before.get(name, 0)

    with served.client() as client:
        before = read(client)
        for _ in range(7):
            client.get(f"/v1/artifacts/{desk['id']}")
        for _ in range(3):
            client.get("/v1/artifacts/nobody")
        client.post("/v1/compile", json=json.loads("[]"))
        client.request("BREW", "/pot")
        after = read(client)
    assert requests("/v1/artifacts/{id}", "2xx") == 7
    assert requests("/v1/artifacts/{id}", "4xx") == 3
    assert requests("/v1/compile", "4xx", "POST") == 1
    assert requests("other", "4xx", "other") == 1
    assert requests("/metrics/{section}", "2xx") == 1
    assert timed("/v1/artifacts/{id}") == 10
    assert after["pcompiler_http_in_flight"] == 1  # the reader
