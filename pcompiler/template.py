"""How a prompt and a query become tokens: context first, then the query's turn.

The boundary is chosen so that the context's tokens are a true prefix of every request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from pcompiler.errors import InputError
from pcompiler.ir import Message

_QUERY = "pcompiler-query-6b1f0c"  # stands for the query while the template is cut in two


@dataclass(frozen=True)
class Template:
    """One prompt's chat template, cut around the query.

    Attributes:
        tokenizer: the model's tokenizer.
        context_text: all that precedes the query's turn, as the model sees it.
        before: text between the context and the query.
        after: text between the query and the answer.
    """

    tokenizer: Any
    context_text: str
    before: str
    after: str

    @classmethod
    def of(cls, tokenizer: Any, messages: Sequence[Message]) -> Template:  # noqa: ANN401
        """Cut the tokenizer's template around a query that follows these messages.

        A template that knows no system role gets the system text at the head of the user's
        turn. A model without a chat template gets plain text with blank lines between.

        Raises:
            InputError: the chat template refuses the messages.
        """
        if tokenizer.chat_template is None:
            bos = tokenizer.bos_token if _adds_bos(tokenizer) else ""
            text = "\n\n".join(m.content for m in messages)
            return cls(tokenizer, bos + text, "\n\n", "\n")
        chat = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return cls(tokenizer, *_cut(tokenizer, chat, _QUERY))
        except TemplateError as refusal:
            if [m.role for m in messages] != ["system"]:
                raise InputError(
                    f"the model's chat template refuses the messages: {refusal}."
                ) from None
        return cls(tokenizer, *_cut(tokenizer, [], f"{messages[0].content}\n\n{_QUERY}"))

    def context_ids(self) -> list[int]:
        """Tokens of the context."""
        return self._encode(self.context_text)

    def query_ids(self, query: str) -> list[int]:
        """Tokens of one query's turn, up to where the answer begins."""
        return self._encode(self.before + query + self.after)

    def query_opening_ids(self, opening: str) -> list[int]:
        """Tokens of a query's turn that has only begun."""
        return self._encode(self.before + opening)

    def turns_ids(self, turns: Sequence[Message]) -> list[int]:
        """Tokens of turns that follow the context, up to where the next answer begins.

        Args:
            turns: the user's and the assistant's in turn, the user's first and last.

        Raises:
            InputError: other roles, or another order.
        """
        roles = [turn.role for turn in turns]
        if len(roles) % 2 == 0 or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            raise InputError(
                f"the turns are of {', '.join(roles) or 'nobody'}; after an artifact the user and "
                "the assistant take turns, and the user is first and last."
            )
        text = self.before + turns[0].content
        if len(turns) > 1:
            asked, said = _between(self.tokenizer)
            for answer, query in zip(turns[1::2], turns[2::2], strict=True):
                text += asked + answer.content + said + query.content
        return self._encode(text + self.after)

    def lead(self) -> str:
        """What stands before a query's turn when no prompt does: the model's own first token.

        Nothing, unless the context begins with that token and the turn does not.
        """
        bos = self.tokenizer.bos_token_id
        led = bos is not None and self._encode(self.context_text[:64])[:1] == [bos]
        return self.tokenizer.bos_token if led and self._encode(self.before)[:1] != [bos] else ""

    def bare_ids(self, query: str) -> list[int]:
        """The query's turn with no prompt before it, led by the model's own first token."""
        return self._encode(self.lead() + self.before + query + self.after)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def chat_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:  # noqa: ANN401
    """Tokens of a whole chat, up to where the next answer begins: no artifact stands before it.

    Raises:
        InputError: the chat template refuses it, or the last turn is not the user's.
    """
    systems = [m for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    if not turns or turns[-1].role != "user":
        raise InputError("the last turn of a chat has to be the user's.")
    if tokenizer.chat_template is None:
        template = Template.of(tokenizer, systems) if systems else Template.of(tokenizer, [])
        return template.context_ids() + template.turns_ids(turns)
    chat = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return _rendered(tokenizer, chat)
    except TemplateError as refusal:
        if not systems or messages[0].role != "system" or turns[0].role != "user":
            raise InputError(f"the model's chat template refuses the chat: {refusal}.") from None
    head = "\n\n".join(m.content for m in [*systems, turns[0]])
    rest = [{"role": m.role, "content": m.content} for m in turns[1:]]
    try:
        return _rendered(tokenizer, [{"role": "user", "content": head}, *rest])
    except TemplateError as refusal:
        raise InputError(f"the model's chat template refuses the chat: {refusal}.") from None


def _rendered(tokenizer: Any, chat: list[dict[str, str]]) -> list[int]:  # noqa: ANN401
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _between(tokenizer: Any) -> tuple[str, str]:  # noqa: ANN401
    """What stands between a query and its answer, and between that and the next query."""
    if tokenizer.chat_template is None:
        return "\n", "\n\n"
    marks = [f"{_QUERY}-{i}-" for i in range(3)]
    chat = [
        {"role": role, "content": mark}
        for role, mark in zip(("user", "assistant", "user"), marks, strict=True)
    ]
    try:
        whole = str(tokenizer.apply_chat_template(chat, tokenize=False))
    except TemplateError as refusal:
        raise InputError(f"the model's chat template refuses several turns: {refusal}.") from None
    asked, _, rest = whole.partition(marks[0])[2].partition(marks[1])
    return asked, rest.partition(marks[2])[0]


def _adds_bos(tokenizer: Any) -> bool:  # noqa: ANN401
    return bool(tokenizer.bos_token_id in tokenizer.encode(""))


def _cut(tokenizer: Any, chat: list[dict[str, str]], query: str) -> tuple[str, str, str]:  # noqa: ANN401
    def render(messages: list[dict[str, str]], answer: bool) -> str:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
        )

    whole = render([*chat, {"role": "user", "content": query}], answer=True)
    head = render(chat, answer=False) if chat else ""
    before, _, after = whole.partition(_QUERY)
    # Some templates put the system text into the user's turn; then the context goes on to there.
    complete = bool(chat) and all(m["content"].strip() in head for m in chat)
    if complete and before.startswith(head):
        return head, before[len(head) :], after
    return before, "", after
