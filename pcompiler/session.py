"""An artifact at work: queries go in, answers stream out, the prompt is not read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypedDict

from pcompiler.closing import Closing
from pcompiler.config import DecodeConfig
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import Picker, greedy, sampler, steps
from pcompiler.runtime.pieces import Pieces
from pcompiler.runtime.prefix import Prefix
from pcompiler.template import Template

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DecodeSettings(TypedDict, total=False):
    """The fields of ``DecodeConfig``; those left out keep their defaults."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int


class Session(Closing):
    """A model with a prefix in place. Every query starts afresh from the prefix.

    Args:
        model: the language model.
        prefix: what stands before every query.
        template: how a query becomes tokens.
    """

    def __init__(self, model: LanguageModel, prefix: Prefix, template: Template) -> None:
        self.model = model
        self._prefix: Prefix | None = prefix
        self._template = template

    def close(self) -> None:
        """Let go of the prefix's memory; the session cannot be used afterwards."""
        self._prefix = None

    def generate(self, query: str, **settings: Unpack[DecodeSettings]) -> str:
        """The whole answer; see ``stream``."""
        return "".join(self.stream(query, **settings))

    def stream(self, query: str, **settings: Unpack[DecodeSettings]) -> Iterator[str]:
        """The answer piece by piece; a piece never ends inside a character.

        Args:
            query: the user's turn.
            **settings: ``max_tokens``, ``temperature``, ``top_p``, ``seed``: see ``DecodeConfig``.

        Raises:
            InputError: an empty query, or one that does not fit the window; before any work.
            ConfigError: a setting out of range; before any work.
        """
        decode = DecodeConfig(**settings)
        if self._prefix is None:
            raise InputError("this session is closed; open another from the artifact.")
        if not query.strip():
            raise InputError("the query is empty; ask something.")
        ids = self._template.query_ids(query)
        room = self.model.window - self._prefix.length - len(ids)
        if room < 1:
            raise InputError(
                f"the query has {len(ids)} tokens; after the artifact's {self._prefix.length} only "
                f"{self.model.window - self._prefix.length} fit the model's window. Shorten it."
            )
        pick: Picker = greedy
        if decode.temperature > 0:
            pick = sampler(decode.temperature, decode.top_p, decode.seed)
        length = min(decode.max_tokens, room)
        decoding = steps(self.model, self._prefix, [ids], length, pick)
        return self._pieces(step.tokens[0] for step in decoding)

    def _pieces(self, tokens: Iterator[int]) -> Iterator[str]:
        pieces = Pieces(self.model.tokenizer)
        for token in tokens:
            if token in self.model.stop_ids:
                break
            if text := pieces.push(token):
                yield text
        if rest := pieces.rest():
            yield rest
