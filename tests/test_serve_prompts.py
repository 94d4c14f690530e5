"""What a prompt is made of, and what is left of it, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from serving import Server

from pcompiler.frontend import parse
from pcompiler.serve.http.prompts import MOST_COMPARED, MOST_SEGMENTS, compared
from pcompiler.serve.http.refusals import Refusal
from pcompiler.store.key import content_hash

PROMPT = (
    "# Desk\n\nYou answer in one sentence. You answer in one sentence.\n\n"
    "<!-- pcompiler:keep -->\nNever promise a price.\n<!-- pcompiler:end -->\n\n"
    "- We open at nine.\n- We close at six.\n\n```json\n{}\n```\n"
)


def ask(served: Server, source: str) -> dict[str, Any]:
    with served.client() as client:
        answer = client.post("/v1/segments", json={"source": source})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_segments_tile_the_source_and_are_those_that_a_compile_works_with(served: Server) -> None:
    found = ask(served, PROMPT)
    assert "".join(part["source"] for part in found["segments"]) == PROMPT
    ours = [(part.kind.value, part.policy.value) for part in parse(PROMPT).segments]
    assert [(part["kind"], part["policy"]) for part in found["segments"]] == ours
    assert found["prompt_hash"] == content_hash(PROMPT)
    turns = [{"role": m.role, "content": m.content} for m in parse(PROMPT).messages]
    assert found["messages"] == turns
    unseen = [part for part in found["segments"] if part["kind"] == "markup"]
    assert unseen
    assert not any(part["tokens"] for part in unseen)
    assert 0 < found["tokens"] <= sum(part["tokens"] for part in found["segments"])


def test_segments_of_a_chat_say_which_turn_they_are_of(served: Server) -> None:
    source = '[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello."}]'
    found = ask(served, source)
    seen = {(part["message"], part["source"]) for part in found["segments"] if part["tokens"]}
    assert seen == {(0, "Be kind."), (1, "Hello.")}
    assert [turn["role"] for turn in found["messages"]] == ["system", "user"]


def test_only_so_many_segments_are_sent_and_the_others_counted(served: Server) -> None:
    found = ask(served, "# A\n\n" * (MOST_SEGMENTS + 7))
    assert len(found["segments"]) == MOST_SEGMENTS
    assert found["left_out"] == 7


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<!-- pcompiler:keep -->\nA.\n", "is never closed"),
        ("x" * 262_145, "at most 262144"),
        ("", "at least 1"),
        ("   ", "no text for the model"),
    ],
)
def test_a_source_that_cannot_be_compiled_is_refused_in_words(
    served: Server, source: str, words: str
) -> None:
    with served.client() as client:
        answer = client.post("/v1/segments", json={"source": source})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_both_texts_can_be_read_off_the_changes_of_an_artifact_of_text(served: Server) -> None:
    with served.client() as client:
        body = {"source": PROMPT, "target": "text", "settings": {"rate": 0.7}, "queries": ["When?"]}
        done = client.post("/v1/compile", json=body)
        assert done.status_code == 200, done.text
        path = f"/v1/artifacts/{done.json()['artifact']}"
        parts = client.get(f"{path}/changes").json()["data"]
        header = client.get(path).json()
    full = "".join(part["text"] for part in parts if part["sign"] in " -")
    short = "".join(part["text"] for part in parts if part["sign"] in " +")
    assert full == parse(PROMPT).messages[0].content
    assert "Never promise a price." in short
    assert len(short) < len(full)
    assert header["kept_tokens"] < header["context_tokens"]


def test_what_keeps_no_text_has_no_changes(served: Server, desk: dict[str, Any]) -> None:
    with served.client() as client:
        answer = client.get(f"/v1/artifacts/{desk['id']}/changes")
        assert answer.status_code == 400
        assert "is kv" in answer.json()["error"]["message"]
        assert client.get("/v1/artifacts/0000/changes").status_code == 404


def test_a_prompt_that_takes_long_to_compare_is_refused_before_it_is() -> None:
    with pytest.raises(Refusal, match="pcompiler compile --target text --diff"):
        compared("a " * MOST_COMPARED, b"")
