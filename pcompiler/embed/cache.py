"""Vectors that were made once, kept in the store: by content and by what made them. No torch.

A key is 8 bytes of the provider's fingerprint and 16 of the text's content hash, so that a store
serves several providers and all texts of one are next to each other. A record is

    magic "V1" · dimensions, 2 bytes · CRC-32 of all that follows, 4 bytes · float16 each

little-endian. Half precision moves a cosine by 1e-4 at most (measured: 6e-5); one that does not
verify, a flipped byte or another width, counts as not there and is written anew.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from pcompiler import meter
from pcompiler.embed.base import Documents, Provider, Vectors, check_texts, check_vectors

_HEAD = struct.Struct("<2sHI")
_MAGIC = b"V1"
PREFIX_BYTES, CONTENT_BYTES = 8, 16


@runtime_checkable
class VectorStore(Protocol):
    """Where records are kept; ``store.db.Store`` is one."""

    def vectors(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The record of each key, None where there is none."""
        ...

    def add_vectors(self, records: Mapping[bytes, bytes]) -> None:
        """Write all records in one batch."""
        ...

    def all_vectors(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin so, with their records, in order."""
        ...


class InMemory:
    """Records of this process alone, on top of those of a store that is not written to.

    Args:
        below: where the records of before are; None: there are none.
    """

    def __init__(self, below: VectorStore | None = None) -> None:
        self._below = below
        self._records: dict[bytes, bytes] = {}

    def vectors(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``VectorStore``."""
        below = self._below.vectors(keys) if self._below else [None] * len(keys)
        return [self._records.get(k, old) for k, old in zip(keys, below, strict=True)]

    def add_vectors(self, records: Mapping[bytes, bytes]) -> None:
        """See ``VectorStore``."""
        self._records |= records

    def all_vectors(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See ``VectorStore``."""
        below = dict(self._below.all_vectors(prefix)) if self._below else {}
        mine = {k: v for k, v in self._records.items() if k.startswith(prefix)}
        yield from sorted((below | mine).items())


@dataclass
class Counts:
    """How often a text was there already; repeats within one call count as hits."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0  # of the misses: records that did not verify

    @property
    def hit_rate(self) -> float:
        """Share of the texts asked for that were not computed, 0..1; 0 before the first."""
        return self.hits / max(1, self.hits + self.misses)


class Cached:
    """A provider whose vectors are looked up before they are made.

    Args:
        provider: makes what is not there.
        store: where the vectors are kept.
        whole: read each text to its end, where the provider tells the two apart; such vectors
            have keys of their own.

    Attributes:
        counts: hits and misses since it was made, for metrics.
        make: texts → vectors past the store, as the provider makes them.
    """

    def __init__(self, provider: Provider, store: VectorStore, whole: bool = False) -> None:
        self.provider, self.store, self.counts = provider, store, Counts()
        self.make = provider.embed
        if whole and isinstance(provider, Documents):
            self.make = provider.embed_documents
        kind = "whole" if whole else "text"
        # Cut and whole texts are apart even where the provider reads both alike: the whole ones
        # are the prompts of a store, and are looked through together.
        self.prefix = prefix(provider.fingerprint, kind)

    @property
    def fingerprint(self) -> str:
        """That of the provider: the vectors are the same to half precision."""
        return self.provider.fingerprint

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return self.provider.width

    def embed(self, texts: Sequence[str], names: Sequence[bytes] | None = None) -> Vectors:
        """As the provider's: one look-up for all, one call for those missing, one write.

        What is written is rounded to half precision, and so is what comes back the first time:
        a text has the same vector whether it was found or made.

        Args:
            texts: any number of them.
            names: 16 bytes that each is kept by, in place of its content hash.
        """
        check_texts(texts)
        keys = [self.prefix + n for n in names] if names else [self.key(t) for t in texts]
        found = self._found(dict.fromkeys(keys))
        missing = {k: text for k, text in zip(keys, texts, strict=True) if k not in found}
        if missing:
            made = self.make(list(missing.values()))
            records = {k: encode(v) for k, v in zip(missing, made, strict=True)}
            self.store.add_vectors(records)
            found |= dict(zip(missing, made.astype("<f2").astype(np.float32), strict=True))
        self._count(len(texts) - len(missing), len(missing))
        rows = [found[key] for key in keys]
        return np.stack(rows) if rows else np.zeros((0, self.width), np.float32)

    def key(self, text: str) -> bytes:
        """Of a text: 24 bytes."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return self.prefix + digest[:CONTENT_BYTES]

    def all(self, limit: int | None = None) -> tuple[list[bytes], Vectors]:
        """Content hashes and vectors of this provider in the store; damaged records are left out.

        Args:
            limit: how many records are read at most.
        """
        keys: list[bytes] = []
        rows: list[Vectors] = []
        for key, record in self.store.all_vectors(self.prefix):
            vector = decode(record, self.width)
            if vector is not None:
                keys.append(key[PREFIX_BYTES:])
                rows.append(vector)
            if limit is not None and len(keys) >= limit:
                break
        return keys, np.stack(rows) if rows else np.zeros((0, self.width), np.float32)

    def _count(self, hits: int, misses: int) -> None:
        self.counts.hits += hits
        self.counts.misses += misses
        meter.count("cache_requests", hits, cache="embeddings", result="hit")
        meter.count("cache_requests", misses, cache="embeddings", result="miss")

    def _found(self, keys: Mapping[bytes, object]) -> dict[bytes, Vectors]:
        records = self.store.vectors(list(keys))
        found = {}
        for key, record in zip(keys, records, strict=True):
            vector = None if record is None else decode(record, self.width)
            if vector is not None:
                found[key] = vector
            elif record is not None:
                self.counts.damaged += 1
        return found


def prefix(fingerprint: str, kind: str = "text") -> bytes:
    """What the keys of one provider begin with: 8 bytes."""
    return hashlib.sha256(f"{fingerprint} {kind}".encode()).digest()[:PREFIX_BYTES]


def encode(vector: Vectors) -> bytes:
    """A vector as a record.

    Raises:
        VectorError: not finite, or not one vector.
    """
    (row,) = check_vectors(np.asarray(vector)[None])
    body: bytes = row.astype("<f2").tobytes()
    return bytes(_HEAD.pack(_MAGIC, len(row), zlib.crc32(body))) + body


def decode(record: bytes, width: int) -> Vectors | None:
    """(width,) float32 of a record; None for one that is damaged or of another width."""
    if len(record) != _HEAD.size + 2 * width:
        return None
    magic, dimensions, crc = _HEAD.unpack_from(record)
    body = record[_HEAD.size :]
    if magic != _MAGIC or dimensions != width or zlib.crc32(body) != crc:
        return None
    return np.frombuffer(body, "<f2").astype(np.float32)
