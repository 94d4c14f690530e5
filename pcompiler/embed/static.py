"""A table with one vector a token: a text is the weighted mean of its tokens. No torch.

Distilled once from the embedded encoder (``distil.py``) and kept in the user's cache. It reads a
text of any length to its end, and knows words but not their order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer

from pcompiler.embed.base import Vectors, check_texts, check_vectors, reported, unit
from pcompiler.embed.words import Words
from pcompiler.errors import ModelError
from pcompiler.wheel import cache_folder

if TYPE_CHECKING:
    from pcompiler.config import EmbedConfig

MADE = "static-minilm-v1"  # changed when what is made changes
TABLE, WORDS = "table.safetensors", "tokenizer.json"
CHUNK = 1024  # texts whose tokens are in memory at once
PIECE = 1024  # tokens whose vectors are: a sum of millions in float32 would drift as well


def from_settings(settings: EmbedConfig, device: str = "auto") -> Static:  # noqa: ARG001
    """The table of the embedded encoder; it needs no settings."""
    return Static.load()


@dataclass(frozen=True)
class Static:
    """A loaded table.

    Attributes:
        table: (tokens, width), float32, weights included.
        tokenizer: text → tokens, without truncation and padding.
        fingerprint: hash of both.
    """

    table: Vectors
    tokenizer: Tokenizer
    fingerprint: str

    @classmethod
    def load(cls) -> Static:
        """The embedded encoder's table; made on first use, in half a minute or so.

        Raises:
            ModelError: the encoder cannot be fetched, or the cache not be read or written.
        """
        folder = ready()
        if folder is None:
            from pcompiler.embed.distil import make

            folder = make(cache_folder() / "models" / MADE)
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Static:
        """A table that ``distil`` has made. Raises ModelError for a damaged one."""
        try:
            with safe_open(folder / TABLE, "np") as file:
                told = file.metadata()["fingerprint"]
            tokenizer = Tokenizer.from_file(str(folder / WORDS))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            # Looking for a NaN would read all of it; whoever keeps a vector looks at that.
            return cls(_mapped(folder / TABLE), tokenizer, told)
        # tokenizers has no better class for a damaged file.
        except Exception as e:
            raise ModelError(f"cannot load {folder}: {e}. Delete it to make it anew.") from e

    @classmethod
    def from_objects(cls, table: NDArray[np.floating], tokenizer: Tokenizer) -> Static:
        """Wrap a table that is already in memory; its fingerprint is computed.

        Raises:
            VectorError: a NaN in the table.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        rows = check_vectors(table, of="the table's rows")
        return cls(rows, tokenizer, fingerprint_of(rows, tokenizer))

    @property
    def width(self) -> int:
        """Dimensions of a vector: 256."""
        return int(self.table.shape[1])

    @reported("static")
    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, width), one unit vector a text; zeros for a text without any token."""
        check_texts(texts)
        parts = [self._means(texts[at : at + CHUNK]) for at in range(0, len(texts), CHUNK)]
        return unit(np.concatenate(parts)) if parts else np.zeros((0, self.width), np.float32)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """The same: a table has no window."""
        return self.embed(texts)

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of all texts together."""
        return sum(len(ids) for ids in self._ids(texts))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        # Half a surrogate pair is a legal str that the tokenizer cannot take.
        return self._words.ids([text.encode("utf-8", "replace").decode() for text in texts])

    @cached_property
    def _words(self) -> Words:
        return Words(self.tokenizer)

    def _means(self, texts: Sequence[str]) -> Vectors:
        """(n, width) sums over each text's tokens; their direction is that of the means."""
        sums = np.zeros((len(texts), self.width), np.float32)
        for row, ids in zip(sums, self._ids(texts), strict=True):
            for at in range(0, len(ids), PIECE):
                row += self.table.take(ids[at : at + PIECE], axis=0).sum(axis=0)
        return sums


def ready() -> Path | None:
    """The folder of the embedded encoder's table, if it has been made."""
    folder = cache_folder() / "models" / MADE
    return folder if folder.is_dir() else None


def fingerprint_of(table: Vectors, tokenizer: Tokenizer) -> str:
    """16 hex digits; written beside the table, as hashing it takes longer than loading it."""
    found = hashlib.sha256(tokenizer.to_str().encode())
    found.update(table.tobytes())
    return found.hexdigest()[:16]


def _mapped(path: Path) -> Vectors:
    """The table in its file, read where it is used: a compile needs some hundred of its rows."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        shape = json.loads(file.read(length))["table"]["shape"]
    return np.memmap(path, "<f4", "r", 8 + length, tuple(shape))
