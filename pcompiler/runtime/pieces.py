"""Tokens of an answer → text, as it can be told: whole characters, and no part of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HALF = "\ufffd"  # what a tokenizer makes of a character that has only begun


class Pieces:
    """The text of one answer.

    Args:
        tokenizer: the model's.
        stops: texts that end the answer and are not part of it.

    Attributes:
        stopped: whether one of them has come.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._tokens: list[int] = []
        # Decoded again with each token: a tokenizer may tell a space only by what is before it.
        self._from, self._told = 0, 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """What can be told now that this token has come."""
        self._tokens.append(token)
        whole = self._decode(len(self._tokens))
        return "" if whole.endswith(HALF) else self._tell(whole)

    def rest(self) -> str:
        """What was held back, once no token comes any more."""
        if self.stopped:
            return ""
        text = self._tell(self._decode(len(self._tokens)))
        text, self._held = text + self._held, ""
        return text

    def _decode(self, end: int) -> str:
        ids = self._tokens[self._from : end]
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _tell(self, whole: str) -> str:
        new = whole[len(self._decode(self._told)) :]
        self._from, self._told = self._told, len(self._tokens)
        text = self._held + new
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_begun(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _begun(text: str, stop: str) -> int:
    """Characters at the end of the text that the stop text begins with."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
