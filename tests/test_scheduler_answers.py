"""Chats that share a model say what each would alone, and how they ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chats import PROMPT, WAYS, Asking, Make, chat, every_way
from conftest import tiny

from pcompiler.compiler import Compiler
from pcompiler.errors import InputError, NotFoundError
from pcompiler.serve.contract import ChatRequest, Message


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiler]:
    with every_way(tmp_path_factory.mktemp("compiled")) as compiler:
        yield compiler


@pytest.fixture
def make(compiled: Compiler) -> Iterator[Make]:
    with Make(compiled) as made:
        yield made


@pytest.mark.parametrize("sampled", [{}, {"temperature": 1.0, "top_p": 0.9, "seed": 7}])
def test_answers_side_by_side_are_those_of_a_session_alone(
    compiled: Compiler, make: Make, sampled: dict[str, Any]
) -> None:
    scheduler = make(slots=4, chunk_tokens=16)
    asked = [(name, f"{query}, {name}?") for name in WAYS for query in ("When", "Where is it")]
    chats = [
        Asking(scheduler, chat(query, name, max_tokens=20, **sampled)) for name, query in asked
    ]
    said = [one.result()[0] for one in chats]  # before the model is used alone
    for (name, query), text in zip(asked, said, strict=True):
        with compiled.session(name) as session:
            assert text == session.generate(query, max_tokens=20, **sampled)


def test_without_an_artifact_the_chat_is_the_whole_prompt(compiled: Compiler, make: Make) -> None:
    messages = [Message("system", PROMPT), Message("user", "When?")]
    said, end = Asking(make(), ChatRequest(messages, max_tokens=15)).result()
    with compiled.full_prompt(PROMPT) as session:
        assert said == session.generate("When?", max_tokens=15)
    assert end.saved_tokens == 0


def test_turns_after_an_artifact_are_the_whole_chat_after_the_prompt(
    compiled: Compiler, make: Make
) -> None:
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    scheduler = make()
    whole = Asking(scheduler, ChatRequest([Message("system", PROMPT), *turns], max_tokens=15))
    after, end = Asking(scheduler, ChatRequest(turns, "kv", max_tokens=15)).result()
    assert after == whole.result()[0]
    header = compiled.store.header("kv")
    assert (end.saved_tokens, header.kept_tokens) == (header.context_tokens, header.context_tokens)


def test_the_end_says_what_was_read_saved_and_said(compiled: Compiler, make: Make) -> None:
    scheduler = make()
    for name in WAYS:
        header = compiled.store.header(name)
        query = compiled.session(name)._template.query_ids("When?")
        _, end = Asking(scheduler, chat(artifact=name, max_tokens=5)).result()
        assert end.prompt_tokens == header.kept_tokens + len(query)
        read_again = header.kept_tokens if name == "text" else 0
        assert end.saved_tokens == header.context_tokens - read_again
        assert (end.reason, end.answer_tokens) == ("length", 5)
        assert 0 <= end.waited_s <= end.ttft_s
    _, again = Asking(scheduler, chat(artifact="text", max_tokens=5)).result()
    assert again.saved_tokens == compiled.store.header("text").context_tokens  # it was kept


def test_the_models_stop_token_ends_an_answer(make: Make) -> None:
    scheduler = make(model=tiny())
    said, end = Asking(scheduler, chat("2?", max_tokens=1500)).result()
    assert (end.reason, end.answer_tokens < 1500) == ("stop", True)
    assert "<|im_end|>" not in said


def test_a_stop_text_ends_an_answer(make: Make) -> None:
    scheduler = make()
    whole, _ = Asking(scheduler, chat(artifact="kv", max_tokens=30)).result()
    stop = whole[5:7]
    said, end = Asking(scheduler, chat(artifact="kv", max_tokens=30, stop=[stop])).result()
    assert said == whole[: whole.index(stop)]
    assert end.reason == "stop"


def test_the_window_bounds_an_answer_and_a_chat_beyond_it_is_refused(make: Make) -> None:
    scheduler = make(model=tiny(max_position_embeddings=64), chunk_tokens=32)
    said = Asking(scheduler, chat("x", max_tokens=500)).result()[1]
    assert said.reason == "stop" or said.prompt_tokens + said.answer_tokens == 64
    with pytest.raises(InputError, match="only 64 fit"):
        Asking(scheduler, chat("x" * 80)).result()


def test_what_is_wrong_with_a_chat_is_said(make: Make) -> None:
    scheduler = make()
    with pytest.raises(NotFoundError, match="nothing"):
        Asking(scheduler, chat(artifact="nothing")).result()
    with pytest.raises(InputError, match="empty"):
        Asking(scheduler, chat("  ", artifact="kv")).result()
    with pytest.raises(InputError, match="take turns"):
        Asking(
            scheduler, ChatRequest([Message("system", "s"), Message("user", "q")], "kv")
        ).result()
    assert Asking(scheduler, chat(artifact="kv", max_tokens=3)).result()[1].answer_tokens == 3
