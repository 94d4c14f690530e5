"""zstd frames: round trips under all settings; hostile frames are refused before they swell."""

from __future__ import annotations

import pickle
import random
import resource
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.codec import dictionary, zstd
from pcompiler.codec.dictionary import Dictionary
from pcompiler.codec.zstd import LEVELS, Codec
from pcompiler.errors import ConfigError, DamageError, MismatchError

SWELL_BYTES = 2**24  # a refusal may allocate no more than this


def records(number: int, seed: int = 0, size: int = 60) -> list[bytes]:
    """Small records that share a vocabulary, each different; a seed has words of its own."""
    draw = random.Random(seed)
    words = [draw.randbytes(4).hex() for _ in range(200)]
    return [" ".join(draw.choices(words, k=size)).encode() for _ in range(number)]


@pytest.fixture(scope="module")
def learnt() -> Dictionary:
    return dictionary.train(records(100), 4096)


@contextmanager
def no_swelling() -> Iterator[None]:
    """Neither Python's memory nor the process's grows."""
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < SWELL_BYTES
    finally:
        tracemalloc.stop()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * unit < SWELL_BYTES


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("far", [False, True])
def test_every_level_gives_back_what_it_was_given(
    level: int, far: bool, learnt: Dictionary
) -> None:
    texts = records(3, 1)
    for threads in (1, 2):
        for known in (None, learnt):
            codec = Codec(level, threads, far, known)
            frame = codec.compress(texts[0] * 9)
            assert codec.compress(texts[0] * 9) == frame
            assert codec.decompress(frame, 2**20) == texts[0] * 9
            claims = zstandard.get_frame_parameters(frame)
            assert (claims.content_size, claims.has_checksum) == (len(texts[0] * 9), True)
            assert claims.dict_id == (known.id if known else 0)


def test_several_threads_give_the_same_bytes_however_many() -> None:
    text = b"".join(records(20_000))
    frames = {zstd.compress(text, 1, threads, long_distance=True) for threads in (2, 3, 5)}
    assert len(frames) == 1
    assert zstd.decompress(frames.pop(), len(text)) == text


def test_repeats_from_far_back_are_read_again() -> None:
    draw = random.Random(4)
    far = draw.randbytes(2**20)
    text = far + draw.randbytes(40 * 2**20) + far
    frame = zstd.compress(text, 3, long_distance=True)
    assert len(frame) < len(zstd.compress(text)) - 2**19
    assert zstd.decompress(frame, len(text)) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6), st.sampled_from(LEVELS))
def test_many_pieces_are_as_if_one_by_one(pieces: list[bytes], level: int) -> None:
    """Also empty ones, of which zstandard's own batches lose the last and kill the process."""
    one = Codec(level)
    frames = [one.compress(piece) for piece in pieces]
    for threads in (1, 2):
        codec = Codec(level, threads)
        assert codec.compress_many(pieces) == frames
        assert codec.decompress_many(frames, 2**20) == pieces


def test_pieces_may_not_hold_more_than_is_allowed_together() -> None:
    frames = Codec().compress_many([b"x" * 100] * 3)
    assert Codec().decompress_many(frames, 300) == [b"x" * 100] * 3
    with pytest.raises(DamageError, match="claims 100 bytes; 99 are allowed"):
        Codec().decompress_many(frames, 299)


def test_long_distance_finds_repeats_that_the_level_alone_does_not() -> None:
    noise = random.Random(0).randbytes(2**22)
    data = noise * 2
    assert len(Codec(3).compress(data)) > 1.9 * len(noise)
    frame = Codec(3, long_distance=True).compress(data)
    assert len(frame) < 1.1 * len(noise)
    assert Codec().decompress(frame, len(data)) == data


def test_threads_share_a_codec(learnt: Dictionary) -> None:
    texts, codec = records(400, 2), Codec(dictionary=learnt)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(codec.compress, texts))
        assert frames == codec.compress_many(texts)
        assert list(pool.map(lambda f: codec.decompress(f, 10_000), frames)) == texts


def test_a_codec_is_equal_to_its_copies(learnt: Dictionary) -> None:
    codec = Codec(7, 2, True, learnt)
    for copy in (pickle.loads(pickle.dumps(codec)), replace(codec)):
        assert copy == codec
        assert copy.compress(b"abc") == codec.compress(b"abc")
    assert Codec(threads=0).workers >= 1


@pytest.mark.parametrize("wrong", [{"level": 0}, {"level": 23}, {"level": -8}])
@pytest.mark.parametrize("threads", [{}, {"threads": -1}, {"threads": 65}])
def test_settings_out_of_range_are_named(wrong: dict[str, int], threads: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"level = .* from -7 to 22"):
        Codec(**wrong)
    if threads:
        with pytest.raises(ConfigError, match=r"threads = .* all cores"):
            Codec(**threads)


def head(content_bytes: int, flags: int = 0b1110_0100) -> bytes:
    """The head of a frame: eight bytes of content size, one segment, a checksum."""
    return zstd.MAGIC + bytes([flags]) + struct.pack("<Q", content_bytes)


@pytest.mark.parametrize("claimed", [2**20, 2**30, 2**42, 2**63, 2**64 - 2])
@pytest.mark.parametrize("allowed", [10, 2**30, 2**64])
def test_claims_are_refused_before_anything_is_allocated(claimed: int, allowed: int) -> None:
    """Whatever the caller allows: no more is believed than the blocks could hold."""
    repeat = (1 | 1 << 1 | 1000 << 3).to_bytes(3, "little") + b"x"  # a last block: 1,000 of x
    raw = (0 << 1 | 4 << 3).to_bytes(3, "little") + b"abcd"  # not the last
    for blocks in (b"", raw, repeat, raw + repeat, raw + repeat + b"more"):
        with no_swelling(), pytest.raises(DamageError):
            Codec().decompress(head(claimed) + blocks + b"\0\0\0\0", allowed)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_791, 65_792, 2**20])
@pytest.mark.parametrize("number", [0, 200, 40_000, 2**31])
def test_no_more_than_allowed_is_read_whatever_the_head(
    size: int, number: int, learnt: Dictionary
) -> None:
    """Heads differ in length by size and dictionary; a small record is known by its head."""
    data = learnt.data[:4] + struct.pack("<I", number) + learnt.data[8:]
    codec = Codec(dictionary=Dictionary(number, data) if number else None)
    frame = codec.compress(b"x" * size)
    assert codec.decompress_many([frame] * 3, 3 * size) == [b"x" * size] * 3
    assert frame.startswith(zstd._small_head(number)) == (256 <= size <= 65_791)
    if size:
        with pytest.raises(DamageError, match=f"claims {size} bytes; {size - 1} are allowed"):
            codec.decompress_many([frame] * 3, 3 * size - 1)
    for wrong in (frame[:-1], frame + b"x", b""):
        with pytest.raises(DamageError):
            codec.decompress_many([frame, wrong], 2**24)


def test_a_window_of_gigabytes_is_not_allocated() -> None:
    frame = Codec().compress(b"hello " * 100)
    for exponent in (21, 31):  # 2 GiB, which zstd may read in one go; 2 TiB, which it may not
        wide = bytes([0b0100_0100, exponent << 3]) + struct.pack("<H", 600 - 256)
        with no_swelling(), suppress(DamageError):
            assert Codec().decompress(zstd.MAGIC + wide + frame[7:], 600) == b"hello " * 100
        with no_swelling(), pytest.raises(DamageError):
            Codec().decompress(zstd.MAGIC + wide + frame[7:-8], 600)


@pytest.mark.parametrize("size", [0, 1, 600, 2**20, 2**20 + 1, 2**22])
def test_every_cut_and_every_addition_is_noticed(size: int) -> None:
    data = random.Random(0).randbytes(size // 2) + bytes(size - size // 2)
    frame = Codec().compress(data)
    assert Codec().decompress(frame, size) == data
    for end in (*range(min(40, len(frame))), *range(max(0, len(frame) - 6), len(frame))):
        with pytest.raises(DamageError):
            Codec().decompress(frame[:end], size)
    for more in (b"\0", frame, Codec().compress(b"")):
        with pytest.raises(DamageError):
            Codec().decompress(frame + more, 2 * size)
    for bit in range(8 * max(0, len(frame) - 4), 8 * len(frame)):
        flipped = bytearray(frame)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamageError):
            Codec().decompress(bytes(flipped), size)


def test_frames_without_size_or_checksum_and_other_bytes_are_refused() -> None:
    no_size = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True)
    no_checksum = zstandard.ZstdCompressor()
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    for frame in (no_size.compress(b"abc"), no_checksum.compress(b"abc"), skipped):
        with pytest.raises(DamageError, match="refused"):
            Codec().decompress(frame, 100)
    for junk in (b"", b"(", b"not zstd", zstd.MAGIC):
        with pytest.raises(DamageError, match="damaged"):
            Codec().decompress(junk, 100)
        with pytest.raises(DamageError, match="damaged"):
            zstd.dictionary_id(junk)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_never_gives_other_content(place: int, bit: int) -> None:
    data = b" ".join(records(20, 3))
    frame = bytearray(Codec().compress(data))
    frame[place % len(frame)] ^= 1 << bit
    with suppress(DamageError, MismatchError):
        assert Codec().decompress(bytes(frame), len(data)) == data


def test_a_dictionary_makes_small_records_smaller_and_is_asked_for(learnt: Dictionary) -> None:
    text = records(101)[100]
    with_, without = Codec(dictionary=learnt), Codec()
    frame = with_.compress(text)
    assert len(frame) < 0.7 * len(without.compress(text))
    with pytest.raises(MismatchError, match=f"needs dictionary {learnt.id}; none is at hand"):
        without.decompress(frame, 10_000)
    other = dictionary.train(records(100, 5), 4096)
    with pytest.raises(MismatchError, match=f"{learnt.id}; dictionary {other.id} is at hand"):
        Codec(dictionary=other).decompress(frame, 10_000)
    assert with_.decompress(without.compress(text), 10_000) == text


def test_a_dictionary_of_another_corpus_is_worse_and_right(learnt: Dictionary) -> None:
    foreign = records(1, 6)[0]
    codec = Codec(dictionary=learnt)
    assert codec.decompress(codec.compress(foreign), 10_000) == foreign
    assert len(codec.compress(foreign)) > len(codec.compress(records(1)[0]))
