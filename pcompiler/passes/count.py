"""Tokens of a prompt: where they stand in it, and how many are left when some of it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pcompiler.errors import ConfigError
from pcompiler.ir import Prompt
from pcompiler.passes.pieces import Pieces
from pcompiler.passes.words import Words

Render = Callable[[Prompt], str]  # a prompt → the text that the model sees


@dataclass(frozen=True)
class View:
    """A prompt as it is counted: its tokens, and where its segments stand in the text.

    Attributes:
        text: all that the model sees.
        starts: (segments,) where each segment's text begins in it, in characters.
        ends: (tokens,) where each token ends in it.
    """

    text: str
    starts: np.ndarray
    ends: np.ndarray

    def tokens_of(self, pieces: Pieces) -> np.ndarray:
        """(tokens,) number of the piece that each token ends in; −1: in none."""
        begins = self.starts[pieces.segment] + pieces.start
        ends = self.starts[pieces.segment] + pieces.end
        found = np.searchsorted(begins, self.ends - 1, "right") - 1
        outside = (found < 0) | (self.ends > ends[np.maximum(found, 0)])
        owners: np.ndarray = np.where(outside, -1, found)
        return owners


class Counter:
    """Counts tokens of a prompt that changes a little at a time, segment by segment.

    A segment ends where a line does, where tokens end as well in nearly every tokenizer; what
    that leaves out is made up for by ``exact``.

    Attributes:
        more: tokens that this leaves out, as far as is known.
    """

    def __init__(self, prompt: Prompt, words: Words, render: Render, total: int) -> None:
        self._words, self._render = words, render
        self._known: dict[str, int] = {}
        self.more = 0
        self.more = total - self.tokens([segment.text for segment in prompt.segments])

    def tokens(self, texts: Sequence[str]) -> int:
        """Of the whole prompt with these texts for its segments."""
        new = list({text for text in texts if text not in self._known})
        self._known.update(zip(new, self._words.counts(new), strict=True))
        return sum([self._known[text] for text in texts]) + self.more

    def exact(self, prompt: Prompt) -> int:
        """Of the whole prompt, as the model sees it; later counts are set right by it."""
        (found,) = self._words.counts([self._render(prompt)])
        self.more += found - self.tokens([segment.text for segment in prompt.segments])
        return found


def plain(prompt: Prompt) -> str:
    """The texts end to end, without a chat template."""
    return "".join(segment.text for segment in prompt.segments)


def starts(prompt: Prompt, text: str) -> np.ndarray:
    """Where each segment stands in the rendered text; a template may strip what is around it.

    Raises:
        ConfigError: the template rewrites the prompt.
    """
    starts, at = [], 0
    for number, message in enumerate(prompt.messages):
        content = message.content.strip()
        found = text.find(content, at)
        if found < 0:
            raise ConfigError(
                "the model's chat template rewrites the prompt, so its tokens cannot be ranked; "
                "use --ranking lexical with another model, or another target."
            )
        position = found - (len(message.content) - len(message.content.lstrip()))
        for segment in prompt.segments:
            if segment.message == number:
                starts.append(position)
                position += len(segment.text)
        at = found + len(content)
    return np.array(starts, dtype=np.int64)
