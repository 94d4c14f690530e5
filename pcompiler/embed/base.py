"""What every source of vectors has in common, and what it takes and refuses. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pcompiler import meter
from pcompiler.errors import InputError, VectorError

Vectors = NDArray[np.float32]
"""(n, width), a row for each text, of length 1; zeros for a text without any token."""

MAX_TEXT_BYTES = 16 * 2**20  # of one text: about 3,000 pages


@runtime_checkable
class Provider(Protocol):
    """Texts → vectors.

    Attributes:
        fingerprint: tells apart what gives different vectors; at least 16 hex digits.
        width: dimensions of a vector.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector a text, in the order of the texts.

        Raises:
            InputError: not a list of texts, or one that is too long.
        """
        ...


@runtime_checkable
class Documents(Provider, Protocol):
    """A provider that reads a text of any length to its end, and not only its beginning."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """As ``embed``, of all of each text."""
        ...


Embed = TypeVar("Embed", bound=Callable[..., Any])


def reported(provider: str) -> Callable[[Embed], Embed]:
    """Decorates a provider's method that makes vectors: ``(self, texts, …)``."""

    def decorate(embed: Embed) -> Embed:
        @wraps(embed)
        def run(self: object, texts: Sequence[str], *args: object, **settings: object) -> object:
            if meter.listener is None:
                return embed(self, texts, *args, **settings)
            with meter.timed("embedding_seconds", provider=provider):
                made = embed(self, texts, *args, **settings)
            meter.count("embedding_texts", len(texts), provider=provider)
            return made

        return cast("Embed", run)

    return decorate


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is not a list of texts. Raises InputError, with the place of the first."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InputError(f"give a list of texts to embed, not one {type(texts).__name__}.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {i} is of type {type(text).__name__}; it has to be a str.")
        if len(text) > MAX_TEXT_BYTES:
            raise InputError(
                f"text {i} has {len(text):,} characters; {MAX_TEXT_BYTES:,} can be embedded at "
                "once. Split it."
            )


def check_vectors(vectors: object, width: int | None = None, of: str = "the vectors") -> Vectors:
    """The vectors as float32, or an error that says what is wrong with them.

    Args:
        vectors: (n, width), or anything that numpy takes for it.
        width: dimensions that they have to have; None: any.
        of: what to call them.

    Raises:
        VectorError: not a matrix of numbers, of another dimension, or not finite.
    """
    try:
        found = np.ascontiguousarray(vectors, dtype="<f4")
    except (TypeError, ValueError):
        raise VectorError(f"{of} are not rows of equally many numbers.") from None
    if found.ndim != 2 or found.shape[1] == 0:
        raise VectorError(f"{of} have the shape {found.shape}; it has to be (texts, dimensions).")
    if width is not None and found.shape[1] != width:
        raise VectorError(
            f"{of} have {found.shape[1]} dimensions, not {width}: they come from another model. "
            "Embed both sides with the same provider."
        )
    finite = np.isfinite(found).all(1)
    if not finite.all():
        raise VectorError(f"{of} have a NaN or infinity in row {int(finite.argmin())}.")
    return found


def unit(vectors: Vectors) -> Vectors:
    """Each row divided by its length; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
