"""The context's tokens are a true prefix of every request, whatever the chat template."""

from __future__ import annotations

import copy

import pytest
from conftest import CHATML, byte_tokenizer

from pcompiler.errors import InputError
from pcompiler.ir import Message
from pcompiler.template import Template, chat_ids

NO_SYSTEM = (  # as Gemma's: no system role, strict turns
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<turn>{{ m['role'] }}\n{{ m['content'] | trim }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
FOLDING = (  # as Mistral's: the system text goes into the last user turn
    "{{ bos_token }}{% for m in messages if m['role'] != 'system' %}[INST] "
    "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n"
    "{% endif %}"
    "{{ m['content'] }} [/INST]{% endfor %}"
)
PROMPT = (Message("system", "You are the desk."),)
TEMPLATES = {"chatml": CHATML, "no system role": NO_SYSTEM, "folding": FOLDING, "none": None}


@pytest.mark.parametrize("name", TEMPLATES)
def test_context_and_query_make_the_whole_request(name: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name]
    template = Template.of(tokenizer, PROMPT)
    text = tokenizer.decode(template.context_ids() + template.query_ids("When?"))
    if name == "chatml":
        want = tokenizer.apply_chat_template(
            [
                {"role": "system", "content": PROMPT[0].content},
                {"role": "user", "content": "When?"},
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        assert text == want
    assert "You are the desk." in tokenizer.decode(template.context_ids())
    assert text.index("You are the desk.") < text.index("When?")
    assert "When?" not in tokenizer.decode(template.context_ids())


def test_a_conversation_goes_on_with_the_query() -> None:
    tokenizer = byte_tokenizer()
    turns = [Message("user", "a"), Message("assistant", "b")]
    template = Template.of(tokenizer, turns)
    assert template.context_text.endswith("assistant\nb<|im_end|>\n")
    assert template.before == "<|im_start|>user\n"


def test_a_query_may_contain_anything() -> None:
    template = Template.of(byte_tokenizer(), PROMPT)
    for query in ("{{ 7 * 7 }}", "\n\n", "pcompiler", "{% raw %}", "é😀"):
        text = template.tokenizer.decode(template.query_ids(query))
        assert query in text


def test_messages_that_the_template_refuses_are_the_users_mistake() -> None:
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = NO_SYSTEM
    with pytest.raises(InputError, match="alternate"):
        Template.of(tokenizer, [Message("user", "a"), Message("user", "b")])


def test_the_bare_query_begins_with_the_models_first_token_once() -> None:
    tokenizer = byte_tokenizer()
    chatml = Template.of(tokenizer, PROMPT)
    assert chatml.bare_ids("x") == chatml.query_ids("x")  # it begins with <|im_start|> anyway
    tokenizer.chat_template = NO_SYSTEM
    other = Template.of(tokenizer, PROMPT)
    assert other.bare_ids("x") == [tokenizer.bos_token_id, *other.query_ids("x")]


TURNS = [
    Message("user", "When do you open?"),
    Message("assistant", "At nine."),
    Message("user", "And on Sundays?"),
    Message("assistant", "Never."),
    Message("user", "Why?"),
]


@pytest.mark.parametrize("name", ["chatml", "no system role"])
def test_turns_are_what_the_chat_template_makes_of_the_whole_chat(name: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name]
    template = Template.of(tokenizer, PROMPT)
    chat = [{"role": m.role, "content": m.content} for m in TURNS]
    if name == "chatml":
        chat.insert(0, {"role": "system", "content": PROMPT[0].content})
    else:
        chat[0]["content"] = f"{PROMPT[0].content}\n\n{chat[0]['content']}"
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    want = tokenizer.encode(text, add_special_tokens=False)
    assert template.context_ids() + template.turns_ids(TURNS) == want
    assert chat_ids(tokenizer, [*PROMPT, *TURNS]) == want


@pytest.mark.parametrize("name", TEMPLATES)
def test_one_turn_is_the_query(name: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name]
    template = Template.of(tokenizer, PROMPT)
    assert template.turns_ids(TURNS[:1]) == template.query_ids(TURNS[0].content)


def test_a_model_without_a_template_gets_turns_with_lines_between() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    text = tokenizer.decode(chat_ids(tokenizer, [*PROMPT, *TURNS[:3]]))
    want = "You are the desk.\n\nWhen do you open?\nAt nine.\n\nAnd on Sundays?\n"
    assert text.removeprefix("<|im_start|>") == want


@pytest.mark.parametrize(
    "turns", [[], TURNS[:2], TURNS[1:3], [TURNS[0], TURNS[0], TURNS[2]], [*PROMPT, TURNS[0]]]
)
def test_turns_in_another_order_are_refused(turns: list[Message]) -> None:
    template = Template.of(byte_tokenizer(), PROMPT)
    with pytest.raises(InputError, match="take turns"):
        template.turns_ids(turns)


def test_a_chat_that_the_template_refuses_is_the_callers_mistake() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = NO_SYSTEM
    with pytest.raises(InputError, match="roles must alternate"):
        chat_ids(tokenizer, [TURNS[0], TURNS[0]])
    with pytest.raises(InputError, match="user's"):
        chat_ids(tokenizer, TURNS[:2])
