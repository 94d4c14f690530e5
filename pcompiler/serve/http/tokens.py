"""How many tokens a text has, counted only where the answer matters."""

from __future__ import annotations

import asyncio
from functools import cached_property
from pathlib import Path
from typing import Any

from pcompiler import embedded
from pcompiler.serve.http.refusals import Refusal


class Tokens:
    """Counts with the tokenizer of a model, which is loaded when it is first needed. No torch.

    Args:
        name: of the model: embedded, a folder, or a hub id.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    async def check(self, texts: list[str], most: int, what: str, param: str) -> None:
        """Refuse texts of more than ``most`` tokens together: 400, context_length_exceeded.

        A token is a byte at least, so short texts are not tokenized.
        """
        if sum(len(text.encode()) for text in texts) <= most:
            return
        count = await asyncio.to_thread(self.count, texts)
        if count > most:
            raise Refusal(
                400,
                f"{what} has {count:,} tokens; this server takes {most:,} at most.",
                code="context_length_exceeded",
                param=param,
            )

    def count(self, texts: list[str]) -> int:
        """Of all texts, each by itself and without a template."""
        return sum(self.each(texts))

    def each(self, texts: list[str]) -> list[int]:
        """Of each text."""
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(one) for one in encoded]

    @cached_property
    def _tokenizer(self) -> Any:  # noqa: ANN401 - the library has no stubs
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._file()))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _file(self) -> Path:
        folder = embedded.folder() if self._name == embedded.NAME else Path(self._name).expanduser()
        if folder.is_dir():
            return folder / "tokenizer.json"
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self._name, "tokenizer.json"))
