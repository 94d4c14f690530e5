"""What is looked at in every request: host, origin, kind of body, and how deep it is nested."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcompiler.serve.http import guards
from pcompiler.serve.http.refusals import Refusal

LOCAL = frozenset(guards.LOOPBACK_NAMES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def deep(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(deep, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(deep, value), default=0)
    return 0


@given(JSON, st.booleans())
def test_depth_is_that_of_the_value_whatever_strings_say(value: object, ascii_only: bool) -> None:
    assert guards.depth(json.dumps(value, ensure_ascii=ascii_only).encode()) == deep(value)


@given(st.binary(max_size=200))
def test_depth_of_any_bytes_is_told(data: bytes) -> None:
    assert 0 <= guards.depth(data) <= len(data)


@pytest.mark.parametrize("part", [b'"\\', b'"', b'"\\"', b"[", b"[]", b'{"a":', b"\\"])
def test_depth_of_megabytes_of_anything_takes_no_time(part: bytes) -> None:
    data = part * (2**20 // len(part))
    start = time.process_time()
    guards.depth(data)
    guards.depth(b'"' + data)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:3000", "127.0.0.1", "127.0.0.1:3000", "[::1]", "[::1]:3000"]
)
def test_our_own_names_are_let_in(host: str) -> None:
    guards.check_host(host, LOCAL)


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:3000", "localhost.evil.example", "::1", "[::1]x",
     "127.0.0.1.evil.example:3000", "localhost:3000:80", ":3000", "127.0.0.1:x"],
)  # fmt: skip
def test_other_names_are_not(host: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        guards.check_host(host, LOCAL)
    assert caught.value.status == 421


def test_pages_of_other_sites_are_refused_and_ours_are_not() -> None:
    guards.check_origin(None, "localhost:3000")
    guards.check_origin("http://localhost:3000", "localhost:3000")
    for origin in ("http://evil.example", "null", "http://localhost:3001", ""):
        with pytest.raises(Refusal) as caught:
            guards.check_origin(origin, "localhost:3000")
        assert caught.value.status == 403


def test_only_json_in_utf_8_is_taken() -> None:
    for kind in ("application/json", "Application/JSON; charset=UTF-8", "application/json;"):
        guards.check_json(kind, b"{}")
    for other in (None, "", "text/plain", "application/json; charset=latin-1", "json"):
        with pytest.raises(Refusal) as caught:
            guards.check_json(other, b"{}")
        assert caught.value.status == 415


def test_json_that_is_nested_too_deep_is_refused() -> None:
    level = guards.MAX_DEPTH
    guards.check_json("application/json", b"[" * level + b"]" * level)
    with pytest.raises(Refusal, match="32 levels"):
        guards.check_json("application/json", b'{"a":' * (level + 1))
