"""zstd dictionaries: what small records have in common, learnt once instead of in each of them.

offset  bytes  what
0       8      magic "PCDICT", 0, format version 1
8       4      h, length of what is known of it, little-endian
12      h      what is known of it, UTF-8 JSON with sorted keys
12+h    …      the dictionary in zstd's own form: magic, id, tables, content
-32     32     SHA-256 of all bytes before it
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import zstandard

from pcompiler.codec.zstd import Codec
from pcompiler.config import MAX_DICTIONARY_BYTES, MIN_DICTIONARY_BYTES, StoreConfig
from pcompiler.errors import DamageError, InputError

MIN_SAMPLES = 10  # so that one can be held out
MAX_CORPUS_BYTES = 2**24  # learnt from in four seconds; twice as much gains one in a hundred
_PIECE_BYTES = 4096  # zstd counts in how many samples a phrase occurs: long ones are cut
_MIN_PIECE_BYTES = 8  # zstd overlooks shorter ones
_FEWEST_PIECES = 8  # fewer, it refuses
_KNOWN = ("name", "version", "created", "samples", "corpus")
_MAGIC, _ZSTD_MAGIC = b"PCDICT\0\1", b"\x37\xa4\x30\xec"
_FIXED, _ID = struct.Struct("<8sI"), struct.Struct("<4sI")
_DIGEST_BYTES = 32
_FIRST_ID = 32_768  # those below, and from 2^31 on, are for dictionaries that all the world has


@dataclass(frozen=True)
class Dictionary:
    """A dictionary in zstd's own form, and where it comes from.

    Attributes:
        id: from a hash of the rest of it; every frame names the one that it needs.
        data: 256 bytes to 1 MiB.
        name: what the user calls it.
        version: counts the dictionaries of this name, from 1.
        created: ISO 8601, UTC.
        samples: how many it was learnt from.
        corpus: hash of these samples, 32 hex digits.

    Raises:
        DamageError: too small or large, not zstd's form, another id, or tables that make no sense.
    """

    id: int
    data: bytes = field(repr=False)
    name: str = field(default="default", compare=False)
    version: int = field(default=1, compare=False)
    created: str = field(default="", compare=False)
    samples: int = field(default=0, compare=False)
    corpus: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not MIN_DICTIONARY_BYTES <= len(self.data) <= MAX_DICTIONARY_BYTES:
            raise DamageError(
                f"a dictionary of {len(self.data)} bytes; it has {MIN_DICTIONARY_BYTES} to "
                f"{MAX_DICTIONARY_BYTES}."
            )
        magic, number = _ID.unpack_from(self.data)
        if magic != _ZSTD_MAGIC or not number or number != self.id:
            raise DamageError(f"dictionary {self.id} does not begin as zstd's of this id do.")
        try:  # only use shows whether its tables can be used
            frame = zstandard.ZstdCompressor(1, dict_data=self.loaded()).compress(_MAGIC)
            zstandard.ZstdDecompressor(dict_data=self.loaded()).decompress(frame)
        except zstandard.ZstdError as e:
            raise DamageError(f"dictionary {self.id} is damaged: {e}.") from None

    def loaded(self) -> zstandard.ZstdCompressionDict:
        """As zstandard takes it; a new one each time, for one context."""
        return zstandard.ZstdCompressionDict(self.data, dict_type=zstandard.DICT_TYPE_FULLDICT)

    def encode(self) -> bytes:
        """The dictionary as a record's bytes."""
        known = {name: getattr(self, name) for name in _KNOWN}
        text = json.dumps(known, sort_keys=True, separators=(",", ":")).encode()
        record = _FIXED.pack(_MAGIC, len(text)) + text + self.data
        return record + hashlib.sha256(record).digest()

    @classmethod
    def decode(cls, record: bytes) -> Dictionary:
        """Undo ``encode``; every byte is checked.

        Raises:
            DamageError: not what was written.
        """
        whole, digest = record[:-_DIGEST_BYTES], record[-_DIGEST_BYTES:]
        if not whole.startswith(_MAGIC) or hashlib.sha256(whole).digest() != digest:
            raise DamageError("its bytes are not those of a dictionary, or are damaged.")
        try:
            start = _FIXED.size + _FIXED.unpack_from(whole)[1]
            known = json.loads(whole[_FIXED.size : start])
            number = _ID.unpack_from(whole, start)[1]
            return cls(number, whole[start:], **{name: known[name] for name in _KNOWN})
        except (struct.error, ValueError, KeyError, TypeError) as e:
            raise DamageError(f"it does not read as a dictionary: {e!r}.") from None


@dataclass(frozen=True)
class Saving:
    """What samples that a dictionary has not seen take, each in a frame of its own.

    Attributes:
        samples: how many.
        plain_bytes: as they are.
        zstd_bytes: compressed without the dictionary.
        dictionary_bytes: compressed with it.
    """

    samples: int
    plain_bytes: int
    zstd_bytes: int
    dictionary_bytes: int

    @property
    def saved(self) -> float:
        """1 − bytes with the dictionary / bytes of zstd alone; below 0, it does harm."""
        return 1 - self.dictionary_bytes / self.zstd_bytes


def train(
    samples: Iterable[bytes],
    size_bytes: int = StoreConfig.dictionary_bytes,
    *,
    name: str = "default",
    version: int = 1,
    level: int = 3,
) -> Dictionary:
    """Learn a dictionary; equal sets of samples give equal ids and bytes, in any order.

    Args:
        samples: records like those to come; those beyond 16 MiB in all are left out.
        size_bytes: of the dictionary at most; less where there is less to learn.
        name: what to call it.
        version: which of this name it is.
        level: that its tables are made for.

    Raises:
        ConfigError: a size out of range.
        InputError: too few samples, or too short or too unlike ones.
    """
    StoreConfig(dictionary_bytes=size_bytes)  # refuses what is out of range
    used = _within(distinct(samples))
    pieces = [s[i : i + _PIECE_BYTES] for s in used for i in range(0, len(s), _PIECE_BYTES)]
    pieces = [piece for piece in pieces if len(piece) >= _MIN_PIECE_BYTES]
    data = _learn(pieces, size_bytes, level)
    if data is None:
        raise InputError(
            f"{len(used)} different samples of {sum(map(len, used))} bytes have too little in "
            f"common to learn from; give {MIN_SAMPLES} or more that are alike, of some hundred "
            "bytes each."
        )
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Dictionary(
        _ID.unpack_from(data)[1], data, name, version, created, len(used), _hash(used)
    )


def distinct(samples: Iterable[bytes]) -> list[bytes]:
    """Each sample once, in an order that depends on nothing but what they are."""
    return sorted(set(samples), key=lambda sample: hashlib.sha256(sample).digest())


def hold_out(samples: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Nine tenths to learn from, and one tenth to measure on; no sample is in both.

    Raises:
        InputError: fewer than ten different samples.
    """
    found = distinct(samples)
    if len(found) < MIN_SAMPLES:
        raise InputError(
            f"{len(found)} different samples are too few to learn from; give {MIN_SAMPLES} or more."
        )
    share = len(found) // 10
    return found[share:], found[:share]


def measure(samples: Sequence[bytes], dictionary: Dictionary, level: int = 3) -> Saving:
    """What these samples take with and without a dictionary, at a level of zstd."""
    without, with_ = (
        sum(map(len, Codec(level, dictionary=known).compress_many(samples)))
        for known in (None, dictionary)
    )
    return Saving(len(samples), sum(map(len, samples)), without, with_)


def _within(samples: Sequence[bytes]) -> list[bytes]:
    """As many of the first samples as may be learnt from."""
    ends = itertools.accumulate(map(len, samples))
    return [s for s, end in zip(samples, ends, strict=True) if end <= MAX_CORPUS_BYTES]


def _learn(pieces: Sequence[bytes], size_bytes: int, level: int) -> bytes | None:
    """A dictionary of these pieces, if there is anything to learn from them."""
    if len(pieces) < _FEWEST_PIECES:
        return None
    try:
        data = zstandard.train_dictionary(size_bytes, [*pieces], level=level).as_bytes()
    except zstandard.ZstdError:  # "Src size is incorrect", whatever is amiss
        return None
    return _numbered(data) if len(data) >= MIN_DICTIONARY_BYTES else None


def _numbered(data: bytes) -> bytes:
    """With an id of all of it: zstd's own says nothing of the tables, which its level changes."""
    rest = data[_ID.size :]
    digest = int.from_bytes(hashlib.sha256(rest).digest()[:8], "little")
    return _ID.pack(_ZSTD_MAGIC, _FIRST_ID + digest % (2**31 - _FIRST_ID)) + rest


def _hash(samples: Sequence[bytes]) -> str:
    lengths = b"".join(len(sample).to_bytes(8, "little") for sample in samples)
    return hashlib.sha256(b"".join((lengths, *samples))).hexdigest()[:32]
