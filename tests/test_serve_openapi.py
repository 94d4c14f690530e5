"""The server against its own OpenAPI description, and against anything in a body: no 5xx."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import Server

ROUTES = (*("/v1/compile", "/v1/segments", "/v1/chat/completions", "/v1/embeddings", "/v1/search"),)
BOUNDED = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def test_every_route_answers_as_it_is_described(served: Server, desk: dict[str, Any]) -> None:
    assert desk
    described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    routes = [found.ok() for found in described.get_all_operations()]
    assert {route.path for route in routes} >= {*ROUTES, "/v1/artifacts/{artifact}", "/metrics"}
    for route in routes:

        @BOUNDED
        @given(case=route.as_strategy())
        def answers(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, timeout=60)

        answers()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["source", "target", "queries", "settings", "name", "wait", "model", "messages", "input",
     "query", "limit", "stream", "stop", "seed", "min_agreement", "max_tokens", "role", "content"]
)  # fmt: skip
NEAR = st.dictionaries(FIELDS, JSON, max_size=6)


def text_of(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@BOUNDED
@given(
    path=st.sampled_from(ROUTES),
    content=st.binary(max_size=300) | JSON.map(text_of) | NEAR.map(text_of),
)
def test_any_body_is_answered_and_never_with_an_error_of_ours(
    served: Server, path: str, content: bytes
) -> None:
    with served.client() as client:
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]


@BOUNDED
@given(path=st.text(max_size=30), query=st.text(max_size=30))
def test_any_path_is_answered(served: Server, path: str, query: str) -> None:
    with served.client() as client:
        for start in ("/v1/artifacts/", "/v1/jobs/", "/page/", "/metrics/", "/"):
            quoted = path.encode("utf-8", "surrogatepass").hex()
            raw = "".join(f"%{quoted[i : i + 2]}" for i in range(0, len(quoted), 2))
            answer = client.get(start + raw, params={"cursor": query.encode(errors="replace")})
            assert answer.status_code < 500, answer.text
