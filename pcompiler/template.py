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
