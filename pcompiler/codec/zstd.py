"""zstd frames with their size and a checksum, and a decompressor that cannot be made to swell."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import zstandard

from pcompiler.codec.measured import measured
from pcompiler.config import MAX_ZSTD_THREADS, ZSTD_LEVELS
from pcompiler.errors import ConfigError, DamageError, MismatchError
from pcompiler.ranges import ranged

if TYPE_CHECKING:
    from pcompiler.codec.dictionary import Dictionary

MAGIC = b"\x28\xb5\x2f\xfd"
LEVELS, MAX_THREADS = ZSTD_LEVELS, MAX_ZSTD_THREADS
MAX_FACTOR = 256  # stored tensors never shrink this far; a frame that claims to is hostile
SLACK_BYTES = 2**20
WINDOW_LOG = 27  # 128 MiB: as far back as decompressors go unless they are told to
_BLOCK_BYTES = 2**17  # a block holds no more
_CHECKSUM_BYTES = 4
_MOST_SMALL = 2**8 + 2**16 - 1  # bytes, of a content whose size is told in two


@dataclass(frozen=True)
class Codec:
    """Compresses to single frames, each with content size, checksum and its dictionary's id.

    A codec may be shared by threads. The same settings and data give the same bytes, except that
    one thread and several cut the data differently.

    Attributes:
        level: -7 (fastest) to -1, and 1 to 22 (smallest).
        threads: 1 to 64, or 0 for as many as there are cores.
        long_distance: find repeats up to 128 MiB back, which levels below 20 look less far for.
        dictionary: what small pieces have in common; frames cannot be read without it.

    Raises:
        ConfigError: a level or number of threads out of range.
    """

    level: int = 3
    threads: int = 1
    long_distance: bool = False
    dictionary: Dictionary | None = None
    _contexts: _Contexts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require(self.level in LEVELS, "level", self.level, "from -7 to 22 and not 0")
        _require(
            0 <= self.threads <= MAX_THREADS,
            "threads",
            self.threads,
            f"from 1 to {MAX_THREADS}, or 0 for all cores",
        )
        object.__setattr__(self, "_contexts", _Contexts(self))

    def __reduce__(self) -> tuple[type[Codec], tuple[object, ...]]:
        return Codec, (self.level, self.threads, self.long_distance, self.dictionary)

    @property
    def workers(self) -> int:
        """Threads that compress: ``threads``, or the number of cores."""
        return self.threads or os.cpu_count() or 1

    def compress(self, data: bytes) -> bytes:
        """One frame."""
        return self._contexts.compressor.compress(data)

    def decompress(self, frame: bytes, max_bytes: int) -> bytes:
        """Undo ``compress``. Nothing is allocated before what the frame claims has been checked.

        Args:
            frame: the bytes of one frame, and no more.
            max_bytes: of the content; what claims to hold more is refused.

        Raises:
            DamageError: not one whole frame as ``compress`` makes them, more than ``max_bytes``,
                or content that fails its checksum.
            MismatchError: it was compressed with another dictionary than this codec's.
        """
        contexts = self._contexts
        try:
            claims = zstandard.get_frame_parameters(frame)
            plain = claims.has_checksum and claims.dict_id == contexts.dictionary_id
            claimed = claims.content_size
            if not (plain and 0 < claimed <= max_bytes and claimed <= SLACK_BYTES):
                _check(frame, claims, max_bytes, contexts.dictionary_id)
            if not claimed:
                return _empty(contexts.decompressor, frame)
            # By position, since names cost a small record as much again: no bytes may follow.
            return contexts.decompressor.decompress(frame, 0, False, False)
        except zstandard.ZstdError as e:
            raise _damaged(e) from None

    def compress_many(self, pieces: Iterable[bytes]) -> list[bytes]:
        """A frame for each piece, the same as ``compress`` gives on one thread."""
        given = list(pieces)
        single = self._contexts.single
        # zstandard 0.25 drops empty pieces from the end, and refuses where all are.
        filled: list[bytes | bytearray | memoryview] = [piece for piece in given if piece]
        if self.workers == 1 or not filled:  # on one thread it is no faster
            return [single.compress(piece) for piece in given]
        frames = single.multi_compress_to_buffer(filled, threads=self.workers)
        found = (frames[i].tobytes() for i in range(len(frames)))
        return [next(found) if piece else single.compress(piece) for piece in given]

    def decompress_many(self, frames: Iterable[bytes], max_bytes: int) -> list[bytes]:
        """Undo ``compress_many``; see ``decompress`` for what it raises.

        Args:
            frames: frames in any order.
            max_bytes: of the contents of all of them together.
        """
        # zstandard's multi_decompress_to_buffer is no faster, overlooks bytes after a frame, and
        # kills the process (0.25: double free) where a frame is empty.
        found: list[bytes] = []
        contexts = self._contexts
        small, read = contexts.small_head, contexts.decompressor.decompress
        try:
            for frame in frames:
                # To take the whole head apart costs a small piece a fifth more.
                if max_bytes >= _MOST_SMALL and frame.startswith(small):
                    content = read(frame, 0, False, False)
                else:
                    content = self.decompress(frame, max_bytes)
                max_bytes -= len(content)
                found.append(content)
        except zstandard.ZstdError as e:
            raise _damaged(e) from None
        return found


class _Contexts(threading.local):
    """zstd's working memory, reused: to build it takes ten times as long as a small record.

    Each thread has its own, since a context serves one caller at a time.
    """

    def __init__(self, codec: Codec) -> None:
        self.single = _compressor(codec, 0)
        self.compressor = self.single if codec.workers == 1 else _compressor(codec, codec.workers)
        self.dictionary_id = codec.dictionary.id if codec.dictionary else 0
        self.small_head = _small_head(self.dictionary_id)
        known = codec.dictionary.loaded() if codec.dictionary else None
        self.decompressor = zstandard.ZstdDecompressor(
            dict_data=known, max_window_size=2**WINDOW_LOG
        )


def _compressor(codec: Codec, workers: int) -> zstandard.ZstdCompressor:
    known = codec.dictionary.loaded() if codec.dictionary else None
    if not codec.long_distance:  # by its level alone, zstd fits its tables to the data's size
        return zstandard.ZstdCompressor(
            codec.level, dict_data=known, write_checksum=True, threads=workers
        )
    params = zstandard.ZstdCompressionParameters.from_level(
        codec.level,
        enable_ldm=True,
        window_log=WINDOW_LOG,
        write_checksum=True,
        write_content_size=True,
        write_dict_id=True,
        threads=workers,
    )
    return zstandard.ZstdCompressor(dict_data=known, compression_params=params)


def _small_head(dictionary_id: int) -> bytes:
    """How frames of 256 to 65,791 bytes begin that ``compress`` makes (RFC 8878, 3.1.1.1).

    Two bytes follow, the content size less 256: whatever they are, nothing larger is claimed.
    """
    width = next(n for n in (0, 1, 2, 4) if dictionary_id < 1 << 8 * n)
    two_bytes, single_segment, checksum = 1 << 6, 1 << 5, 1 << 2
    flags = two_bytes | single_segment | checksum | (0, 1, 2, 4).index(width)
    return MAGIC + bytes([flags]) + dictionary_id.to_bytes(width, "little")


def dictionary_id(frame: bytes) -> int:
    """Id of the dictionary that a frame needs; 0 is none. Raises DamageError: not a frame."""
    try:
        return zstandard.get_frame_parameters(frame).dict_id
    except zstandard.ZstdError as e:
        raise _damaged(e) from None


def _damaged(reason: zstandard.ZstdError) -> DamageError:
    return DamageError(f"a compressed part is damaged: {reason}.")


def _check(
    frame: bytes, claims: zstandard.FrameParameters, max_bytes: int, dictionary_id: int
) -> None:
    """Refuse a frame whose claims cannot be true, or are not allowed."""
    claimed = claims.content_size
    if claimed == zstandard.CONTENTSIZE_UNKNOWN or not claims.has_checksum:
        raise DamageError("a compressed part has no content size or no checksum; refused.")
    if claimed > max_bytes:
        raise DamageError(f"a compressed part claims {claimed} bytes; {max_bytes} are allowed.")
    if claims.dict_id not in (0, dictionary_id):
        raise MismatchError(
            f"a compressed part needs dictionary {claims.dict_id}; "
            f"{f'dictionary {dictionary_id}' if dictionary_id else 'none'} is at hand. "
            "Read it with its own."
        )
    if not claimed or claimed > SLACK_BYTES:
        _check_blocks(frame, claimed)


def _check_blocks(frame: bytes, claimed: int) -> None:
    """Refuse a frame that is not whole, or whose blocks cannot hold what it claims."""
    at, holds, last = zstandard.frame_header_size(frame), 0, 0
    while not last and at + 3 <= len(frame):
        head = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        at += 3 + (1 if kind == 1 else size)  # 1: one byte, repeated
        holds += _BLOCK_BYTES if kind == 2 else size  # 2: compressed
    if not last or at + _CHECKSUM_BYTES != len(frame):
        raise DamageError("a compressed part is damaged: it is cut short, or more follows it.")
    if claimed > holds:
        raise DamageError(f"a compressed part claims {claimed} bytes, and can hold {holds}.")


def _empty(decompressor: zstandard.ZstdDecompressor, frame: bytes) -> bytes:
    """Of a frame that claims to be empty, ``decompress`` would look at no other byte."""
    stream = decompressor.decompressobj()
    if stream.decompress(frame) or not stream.eof or stream.unused_data:
        raise DamageError("a compressed part is damaged: it claims to be empty, and is not.")
    return b""


@ranged("codec compress")
def compress(
    data: bytes, level: int = 3, threads: int = 1, *, long_distance: bool = False
) -> bytes:
    """One frame with its content size and an XXH64 checksum of the content; see ``Codec``."""
    codec = _codec(level, threads, long_distance)
    return measured("compress", "tensors", codec.compress, data)


@ranged("codec decompress")
def decompress(frame: bytes, size: int) -> bytes:
    """Undo ``compress``. Nothing is allocated before the claimed sizes have been checked.

    Args:
        frame: the bytes of one frame.
        size: the content size, in bytes, that the caller expects.

    Raises:
        DamageError: another size, an implausible one, or content that fails its checksum.
    """
    if size > SLACK_BYTES + MAX_FACTOR * len(frame):
        raise DamageError(f"{len(frame)} compressed bytes claim to hold {size}; refused.")
    content = measured("decompress", "tensors", partial(_codec().decompress, max_bytes=size), frame)
    if len(content) != size:
        raise DamageError(f"a compressed part holds {len(content)} bytes where {size} belong.")
    return content


@lru_cache(maxsize=len(LEVELS))
def _codec(level: int = 3, threads: int = 1, long_distance: bool = False) -> Codec:
    return Codec(level, threads, long_distance)


def _require(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{name} = {value!r} is out of range; it must be {allowed}.")
