"""Vectors kept by content: made once, verified, told apart by what made them."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from test_encoder import texts, tiny_encoder

from pcompiler.embed.base import Provider
from pcompiler.embed.cache import Cached, InMemory, VectorStore, decode, encode
from pcompiler.embed.encoder import Encoder
from pcompiler.errors import InputError, VectorError


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return tiny_encoder()


def test_what_was_made_is_found_and_the_hit_rate_is_told(tiny: Encoder) -> None:
    store = InMemory()
    assert isinstance(store, VectorStore)
    cached = Cached(tiny, store)
    assert isinstance(cached, Provider)
    made = cached.embed(["abc", "de", "abc", ""])
    assert (cached.counts.misses, cached.counts.hits) == (3, 1)
    np.testing.assert_allclose(made, tiny.embed(["abc", "de", "abc", ""]), atol=1e-3)
    again = Cached(tiny, store)
    np.testing.assert_array_equal(again.embed(["de", "abc"]), made[[1, 0]])
    assert again.counts.hit_rate == 1.0
    assert cached.embed([]).shape == (0, cached.width)


def test_half_precision_moves_no_cosine_by_more_than_a_thousandth(tiny: Encoder) -> None:
    every = texts(50)
    exact, kept = tiny.embed(every), Cached(tiny, InMemory()).embed(every)
    assert np.abs(exact @ exact.T - kept @ kept.T).max() < 1e-3


def test_another_encoder_and_whole_texts_have_vectors_of_their_own(tiny: Encoder) -> None:
    store = InMemory()
    caches = [Cached(tiny, store), Cached(tiny_encoder(window=8), store), Cached(tiny, store, True)]
    long = "abcdefghijklmnopqrstuvwxyz"
    rows = [cached.embed([long])[0] for cached in caches]
    assert [cached.counts.misses for cached in caches] == [1, 1, 1]
    assert not np.allclose(rows[0], rows[2], atol=1e-3)
    assert [len(cached.all()[0]) for cached in caches] == [1, 1, 1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r[:-1],
        lambda _: b"",
        lambda r: r[:10] + bytes([r[10] ^ 1]) + r[11:],
        lambda r: b"V2" + r[2:],
        lambda _: encode(np.ones(8)),
    ],
)
def test_a_record_that_does_not_verify_is_made_anew(tiny: Encoder, damage: object) -> None:
    store = InMemory()
    cached = Cached(tiny, store)
    good = cached.embed(["abc"])
    key = cached.key("abc")
    (record,) = store.vectors([key])
    store.add_vectors({key: damage(record)})  # type: ignore[operator]
    assert cached.all()[0] == []
    np.testing.assert_array_equal(cached.embed(["abc"]), good)
    assert (cached.counts.misses, cached.counts.damaged) == (2, 1)
    assert store.vectors([key]) == [record]


def test_a_record_has_these_bytes() -> None:
    record = encode(np.array([0.5, -1.0], np.float32))
    assert (
        record
        == b"V1\x02\0" + zlib.crc32(b"\x00\x38\x00\xbc").to_bytes(4, "little") + b"\x00\x38\x00\xbc"
    )
    np.testing.assert_array_equal(decode(record, 2), [0.5, -1.0])
    assert decode(record, 3) is None


def test_a_vector_with_a_nan_is_not_kept() -> None:
    with pytest.raises(VectorError, match="NaN"):
        encode(np.array([1, np.nan], np.float32))


def test_mistakes_are_told_before_anything_is_made(tiny: Encoder) -> None:
    with pytest.raises(InputError, match="text 1 is of type int"):
        Cached(tiny, InMemory()).embed(["abc", 3])  # type: ignore[list-item]


def test_records_in_memory_lie_over_those_of_a_store_that_is_only_read(tiny: Encoder) -> None:
    below = InMemory()
    Cached(tiny, below).embed(["abc"])
    above = Cached(tiny, InMemory(below))
    above.embed(["abc", "de"])
    assert above.counts.hits == 1
    assert len(above.all()[0]) == 2
    assert len(Cached(tiny, below).all()[0]) == 1
    assert len(above.all(limit=1)[0]) == 1
