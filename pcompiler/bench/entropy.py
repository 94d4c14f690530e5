"""One way to compress, on one set of texts: bytes kept, round trip, speed beside plain zstd."""

from __future__ import annotations

import bz2
import lzma
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import zstandard

from pcompiler.bench import zstd_command
from pcompiler.bench.harness import Repeat
from pcompiler.bench.race import Speed, race, sustained
from pcompiler.codec.dictionary import Dictionary
from pcompiler.codec.zstd import WINDOW_LOG, Codec
from pcompiler.errors import DamageError

STREAM, WHOLE, KB8, KB2 = "one stream", "whole files", "8 KB pieces", "2 KB pieces"
PIECE_BYTES = {KB8: 8192, KB2: 2048}
_BLOCK_HEAD, _CHECKSUM = 3, 4  # bytes of a frame of one block, beside its header
_THREADED_LAPS = 4  # threads take their time to start, and other processes come between
_LONGEST_S = 1.0  # of one call; slower ones are timed less often, but twice


@dataclass(frozen=True)
class Method:
    """A way to compress.

    Attributes:
        level: of zstd.
        dictionary: learnt from other files than those that are compressed.
        learnt_level: that the dictionary was made for.
        long_distance: see ``Codec``.
        threads: 1 or more.
    """

    level: int
    dictionary: Dictionary | None = None
    learnt_level: int = 0
    long_distance: bool = False
    threads: int = 1

    def codec(self) -> Codec:
        """Ours."""
        return Codec(self.level, self.threads, self.long_distance, self.dictionary)


@dataclass(frozen=True)
class Beside:
    """The ``zstd`` command, and ours just before and after it.

    Attributes:
        command: what it says of itself.
        compress_mb_per_cpu_s: ours.
    """

    command: zstd_command.CommandSpeed
    compress_mb_per_cpu_s: float

    @property
    def share(self) -> float:
        """Our speed of compressing over the command's, both of CPU time."""
        return self.compress_mb_per_cpu_s / self.command.compress_mb_per_cpu_s


@dataclass(frozen=True)
class Outcome:
    """What a method came to.

    Attributes:
        kind: content type.
        cut: one of STREAM, WHOLE, KB8, KB2.
        parts: how many texts, each compressed on its own.
        size_bytes: of all of them.
        level: of zstd.
        dictionary_bytes: 0: none.
        learnt_level: that the dictionary was made for; 0: none.
        long_distance: see ``Codec``.
        threads: that compressed.
        kept_bytes: of all frames.
        framing_bytes: of it, what is not content: headers and checksums.
        equal_bytes: of the texts whose frames were read back and compared, byte for byte.
        compress: on one or all threads, beside plain zstd with the same settings.
        decompress: on one thread.
        gain: on several threads, beside ours on one; ``wall_share`` is how much sooner it ends.
        elsewhere: share saved by other compressors, by name, where they were asked for.
        beside: the zstd command's figures, where they were asked for and it is installed.
    """

    kind: str
    cut: str
    parts: int
    size_bytes: int
    level: int
    dictionary_bytes: int
    learnt_level: int
    long_distance: bool
    threads: int
    kept_bytes: int
    framing_bytes: int
    equal_bytes: int
    compress: Speed
    decompress: Speed
    gain: Speed | None = None
    elsewhere: dict[str, float] = field(default_factory=dict)
    beside: Beside | None = None

    @property
    def saved(self) -> float:
        """1 - kept / original bytes."""
        return 1 - self.kept_bytes / self.size_bytes


@dataclass(frozen=True)
class Timing:
    """How long speed is measured.

    Attributes:
        rounds: of ours and of plain zstd in turn.
        lap_s: seconds of each, about.
        command_s: seconds of ours before and after the zstd command; 0: without it.
    """

    rounds: int = 5
    lap_s: float = 0.02
    command_s: float = 0.5

    def beside_command(self, asked: bool) -> Timing:
        """The same where the command is asked for, and otherwise without it."""
        return self if asked else replace(self, command_s=0.0)


def measure(kind: str, cut: str, parts: Sequence[bytes], method: Method, timing: Timing) -> Outcome:
    """Compress all, read all back, then time as many as the time is for.

    Raises:
        DamageError: what was read back is not what was compressed.
    """
    codec = method.codec()
    codec.compress(parts[0][:1])  # loads the dictionary
    start = time.perf_counter()
    frames = _compress(codec, parts)
    whole_s = time.perf_counter() - start
    equal = read_back(codec, parts, frames)
    dictionary = method.dictionary
    return Outcome(
        kind=kind,
        cut=cut,
        parts=len(parts),
        size_bytes=sum(map(len, parts)),
        level=method.level,
        dictionary_bytes=len(dictionary.data) if dictionary else 0,
        learnt_level=method.learnt_level if dictionary else 0,
        long_distance=method.long_distance,
        threads=method.threads,
        kept_bytes=sum(map(len, frames)),
        framing_bytes=sum(map(_framing, frames)),
        equal_bytes=equal,
        compress=_compressing(codec, method, parts, whole_s, timing),
        decompress=_decompressing(codec, method, parts, frames, timing),
        gain=_gain(codec, method, parts, whole_s, timing),
        beside=_beside(codec, parts, method, timing.command_s),
    )


def elsewhere(parts: Sequence[bytes]) -> dict[str, float]:
    """Share that slower compressors save, at their best: where entropy coding of text ends."""
    size = sum(map(len, parts))
    ways: dict[str, Callable[[bytes], bytes]] = {
        "bzip2": bz2.compress,
        "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    }
    return {name: 1 - sum(len(way(part)) for part in parts) / size for name, way in ways.items()}


def read_back(codec: Codec, parts: Sequence[bytes], frames: Sequence[bytes]) -> int:
    """Decompress every frame and compare it with its original.

    Returns:
        how many bytes are equal: all of them.

    Raises:
        DamageError: a frame does not decompress, or to anything else than its original.
    """
    found = codec.decompress_many(frames, sum(map(len, parts)))
    for i, (part, back) in enumerate(zip(parts, found, strict=True)):
        if part != back:
            raise DamageError(f"text {i} of {len(parts)} came back other than it was.")
    return sum(map(len, found))


def _compress(codec: Codec, parts: Sequence[bytes]) -> list[bytes]:
    """One text: all threads work on it; several: each thread on its own ones."""
    return [codec.compress(parts[0])] if len(parts) == 1 else codec.compress_many(parts)


def _framing(frame: bytes) -> int:
    return zstandard.frame_header_size(frame) + _BLOCK_HEAD + _CHECKSUM


def _compressing(
    codec: Codec, method: Method, parts: Sequence[bytes], whole_s: float, timing: Timing
) -> Speed:
    """Of some of the parts, from all over, where all of them would take too long."""
    step = max(1, min(len(parts), int(whole_s / timing.lap_s)))
    some = parts[::step]
    return race(
        lambda: _compress(codec, some), _plain(method, some), sum(map(len, some)),
        _repeat(whole_s * len(some) / len(parts), timing), timing.lap_s,
    )  # fmt: skip


def _repeat(once_s: float, timing: Timing) -> Repeat:
    return Repeat(max(2, min(timing.rounds, int(_LONGEST_S / once_s))))


def _gain(
    codec: Codec, method: Method, parts: Sequence[bytes], whole_s: float, timing: Timing
) -> Speed | None:
    """The method as it is beside the same on one thread."""
    if method.threads == 1:
        return None
    one = replace(method, threads=1).codec()
    lap_s = _THREADED_LAPS * timing.lap_s
    return race(
        lambda: _compress(codec, parts), lambda: _compress(one, parts), sum(map(len, parts)),
        _repeat(whole_s, timing), lap_s,
    )  # fmt: skip


def _decompressing(
    codec: Codec,
    method: Method,
    parts: Sequence[bytes],
    frames: Sequence[bytes],
    timing: Timing,
) -> Speed:
    """Of all frames; plain zstd's are ours without a checksum to verify."""
    size = sum(map(len, parts))
    return race(
        lambda: codec.decompress_many(frames, size),
        _plain_back(method, frames), size, Repeat(timing.rounds), timing.lap_s,
    )  # fmt: skip


def _plain(method: Method, parts: Sequence[bytes]) -> Callable[[], list[bytes]]:
    """Plain zstd with the same level, dictionary and threads, one call for each text.

    It writes no checksum, which ours has.
    """
    known = method.dictionary.loaded() if method.dictionary else None
    if method.long_distance:
        params = zstandard.ZstdCompressionParameters.from_level(
            method.level, enable_ldm=True, window_log=WINDOW_LOG, threads=method.threads
        )
        plain = zstandard.ZstdCompressor(dict_data=known, compression_params=params)
        return lambda: [plain.compress(part) for part in parts]
    several = method.threads > 1 and len(parts) > 1
    threads = 0 if several or method.threads == 1 else method.threads
    plain = zstandard.ZstdCompressor(method.level, dict_data=known, threads=threads)
    if not several:
        return lambda: [plain.compress(part) for part in parts]

    def together() -> list[bytes]:
        found = plain.multi_compress_to_buffer(list(parts), threads=method.threads)
        return [found[i].tobytes() for i in range(len(found))]

    return together


def _plain_back(method: Method, frames: Sequence[bytes]) -> Callable[[], object]:
    known = method.dictionary.loaded() if method.dictionary else None
    plain = zstandard.ZstdDecompressor(dict_data=known, max_window_size=2**WINDOW_LOG)
    return lambda: [plain.decompress(frame) for frame in frames]


def _beside(codec: Codec, parts: Sequence[bytes], method: Method, total_s: float) -> Beside | None:
    """Ours before and after the command, so that neither has the quieter moment."""
    if not total_s:
        return None
    assert method.dictionary is None, "the command is not given one"
    assert method.threads == 1, "what it is given is for one thread"
    size = sum(map(len, parts))

    def ours() -> float:
        return sustained(lambda: _compress(codec, parts), size, total_s)

    before = ours()
    command = zstd_command.measure(parts, method.level)
    return None if command is None else Beside(command, (before + ours()) / 2)
