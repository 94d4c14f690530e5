"""An artifact at work: queries go in, answers stream out, the prompt is not read again."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import greedy, sampler, steps
from pcompiler.runtime.prefix import Prefix
from pcompiler.template import Template

MAX_TOKENS = 256


class Session:
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

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the prefix's memory; the session cannot be used afterwards."""
        self._prefix = None

    def generate(
        self,
        query: str,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.0,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> str:
        """The whole answer; see ``stream``."""
        return "".join(self.stream(query, max_tokens, temperature, top_p, seed))

    def stream(
        self,
        query: str,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.0,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> Iterator[str]:
        """The answer piece by piece; a piece never ends inside a character.

        Args:
            query: the user's turn.
            max_tokens: length at most; less where the model's window ends.
            temperature: 0 is greedy.
            top_p: share of the probability that is sampled from.
            seed: of the sampling.

        Raises:
            InputError: an empty query, one that does not fit the window, or a setting out of
                range; before any work.
        """
        if self._prefix is None:
            raise InputError("this session is closed; open another from the artifact.")
        if not query.strip():
            raise InputError("the query is empty; ask something.")
        if max_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
            raise InputError(
                f"max_tokens={max_tokens} must be 1 or more, temperature={temperature} 0 or more, "
                f"top_p={top_p} above 0 and at most 1."
            )
        ids = self._template.query_ids(query)
        room = self.model.window - self._prefix.length - len(ids)
        if room < 1:
            raise InputError(
                f"the query has {len(ids)} tokens; after the artifact's {self._prefix.length} only "
                f"{self.model.window - self._prefix.length} fit the model's window. Shorten it."
            )
        pick = sampler(temperature, top_p, seed) if temperature > 0 else greedy
        return self._pieces(
            step.tokens[0]
            for step in steps(self.model, self._prefix, [ids], min(max_tokens, room), pick)
        )

    def _pieces(self, tokens: Iterator[int]) -> Iterator[str]:
        seen: list[int] = []
        said = ""
        for token in tokens:
            if token in self.model.stop_ids:
                break
            seen.append(token)
            text: str = self.model.tokenizer.decode(seen, skip_special_tokens=True)
            if not text.endswith("\ufffd"):  # half a character: wait for the rest
                yield text[len(said) :]
                said = text
        rest: str = self.model.tokenizer.decode(seen, skip_special_tokens=True)
        if len(rest) > len(said):
            yield rest[len(said) :]
