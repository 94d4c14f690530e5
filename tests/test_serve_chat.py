"""Chat, models and embeddings as the official openai client sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from serving import Server

from pcompiler.compiler import Compiler
from pcompiler.config import Config, ModelConfig, StoreConfig

QUESTION = [{"role": "user", "content": "When do you open?"}]


@pytest.fixture
def client(served: Server, desk: dict[str, Any]) -> Iterator[openai.OpenAI]:
    assert desk
    base = f"{served.url}/v1"
    with openai.OpenAI(base_url=base, api_key="not-needed", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def answer(served: Server, desk: dict[str, Any]) -> str:
    """What the library answers to the question, greedily, from the same artifact."""
    config = Config(model=ModelConfig(desk["model_name"], "cpu"), store=StoreConfig())
    from pcompiler.store.db import Store

    with Store(served.store, "read") as store, Compiler(config=config, store=store) as compiler:
        return compiler.session(desk["id"]).generate("When do you open?", max_tokens=12)


def served_name(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def test_an_artifact_is_named_by_model_and_id_beginning_or_tag(
    client: openai.OpenAI, desk: dict[str, Any], answer: str
) -> None:
    name = served_name(client)
    for reference in (desk["id"], desk["id"][:8], "desk", "desk:latest"):
        for model in (f"{name}@{reference}", reference):
            done = client.chat.completions.create(
                model=model,
                messages=QUESTION,
                max_tokens=12,  # type: ignore[arg-type]
            )
            assert done.choices[0].message.content == answer
            assert done.choices[0].message.role == "assistant"
            assert done.model == model
            assert done.usage is not None
            assert (
                done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
            )
            assert done.usage.prompt_tokens > desk["kept_tokens"]
            assert done.usage.prompt_tokens_details.cached_tokens == desk["kept_tokens"]  # type: ignore[union-attr]


def test_a_streamed_answer_is_the_same_piece_by_piece(client: openai.OpenAI, answer: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model="desk",
            messages=QUESTION,  # type: ignore[arg-type]
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    assert "".join(pieces) == answer
    assert len(pieces) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert not chunks[-1].choices
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens >= len(pieces)
    assert len({c.id for c in chunks}) == 1


def test_usage_is_streamed_only_if_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="desk",
        messages=QUESTION,
        max_tokens=3,
        stream=True,  # type: ignore[arg-type]
    )
    assert all(chunk.usage is None and chunk.choices for chunk in stream)


def test_parts_of_text_and_turns_are_taken(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "When do "}, {"type": "text", "text": "you?"}]
    turns: Any = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": parts},
    ]
    done = client.chat.completions.create(model="desk", messages=turns, max_completion_tokens=3)
    assert done.usage is not None
    assert done.usage.completion_tokens <= 3


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}, *QUESTION]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"n": 2}, "n"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"stop": ["a"] * 5}, "stop"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(
    client: openai.OpenAI, changed: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"model": "desk", "messages": QUESTION} | changed
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked)
    assert (caught.value.param or "").startswith(param)


@pytest.mark.parametrize("name", ["nobody", "gpt-4o@desk", "@desk2", "desk@", "x" * 200])
def test_another_model_is_not_found_as_openai_says_it(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=name, messages=QUESTION)  # type: ignore[arg-type]
    assert caught.value.code == "model_not_found"


def test_the_model_alone_and_every_named_artifact_are_listed(client: openai.OpenAI) -> None:
    name = served_name(client)
    listed = [model.id for model in client.models.list()]
    assert listed[0] == name
    assert f"{name}@desk:latest" in listed
    for model in (*listed, "desk"):
        assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    done = client.chat.completions.create(model=name, messages=QUESTION, max_tokens=2)  # type: ignore[arg-type]
    assert done.choices


def test_a_chat_that_is_too_long_is_refused_before_the_model_sees_it(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "word " * 10_000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="desk", messages=long)
    assert caught.value.code == "context_length_exceeded"


def test_events_end_with_done_and_are_not_to_be_kept(served: Server, desk: dict[str, Any]) -> None:
    body = {"model": desk["id"], "messages": QUESTION, "max_tokens": 3, "stream": True}
    with served.client() as http:
        answer = http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(e.removeprefix("data: "))["object"] for e in events[:-2])


@pytest.mark.model
def test_embeddings_are_unit_vectors_in_both_forms(client: openai.OpenAI) -> None:
    texts = ["a bicycle", "a bike", "the weather in May"]
    plain = client.embeddings.create(model="minilm", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="minilm", input=texts)  # base64 on the wire
    assert [e.index for e in plain.data] == [0, 1, 2]
    for one, other in zip(plain.data, packed.data, strict=True):
        assert sum(x * x for x in one.embedding) == pytest.approx(1, abs=1e-4)
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    bicycle, bike, weather = (e.embedding for e in plain.data)

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert cosine(bicycle, bike) > cosine(bicycle, weather)
    assert plain.usage.prompt_tokens == 4 + 4 + 6  # with the marks at both ends
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="other", input="x")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="minilm", input=["x"] * 257)
