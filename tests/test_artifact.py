"""The artifact format, by its bytes; tensors in their stored form."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.codec import tensors, zstd
from pcompiler.errors import DamageError, MismatchError
from pcompiler.ir import Fidelity
from pcompiler.store.artifact import FORMAT, Artifact, Header


def make(content: dict[str, torch.Tensor] | None = None, **changes: object) -> Artifact:
    """A small, valid artifact."""
    raw = tensors.to_planes(content or {"keys": torch.arange(12.0).reshape(3, 4)})
    body = zstd.compress(raw)
    header = Header(
        id="0123456789abcdef01234567",
        target="kv",
        model_name="m",
        model={"family": "llama"},
        config="c",
        prompt_hash="p",
        probes_hash="q",
        probes_from="queries",
        answer_limit=24,
        context_tokens=3,
        kept_tokens=3,
        before="<",
        after=">",
        fidelity=Fidelity(0.1, 0.9, 1.0, 0.5, 10, 2),
        created="2026-01-01T00:00:00+00:00",
        timing={},
        body_bytes=len(body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        tensor_bytes=len(raw),
    )
    return Artifact(replace(header, **changes), body)  # type: ignore[arg-type]


def test_a_round_trip_gives_the_same_artifact_and_tensors() -> None:
    artifact = make()
    again = Artifact.decode(artifact.encode())
    assert again == artifact
    assert again.header.size_bytes == len(artifact.encode())
    assert torch.equal(again.tensors()["keys"], torch.arange(12.0).reshape(3, 4))


def test_the_layout_is_the_documented_one() -> None:
    data = make().encode()
    magic, version, length = struct.unpack_from("<8sII", data)
    assert (magic, version) == (b"PCOMPILE", FORMAT)
    header = json.loads(data[16 : 16 + length])
    assert list(header) == sorted(header)
    assert data[16 + length : 48 + length] == hashlib.sha256(data[: 16 + length]).digest()
    assert data[48 + length : 52 + length] == b"\x28\xb5\x2f\xfd"  # zstd's magic


def test_every_truncation_is_noticed() -> None:
    data = make().encode()
    for end in range(len(data)):
        with pytest.raises(DamageError):
            Artifact.decode(data[:end])
    with pytest.raises(DamageError):
        Artifact.decode(data + b"x")


def test_every_flipped_bit_is_noticed() -> None:
    data = bytearray(make().encode())
    for position in range(len(data)):
        data[position] ^= 1 << (position % 8)
        with pytest.raises(DamageError):
            Artifact.decode(bytes(data))
        data[position] ^= 1 << (position % 8)


def test_a_newer_format_says_so() -> None:
    data = make().encode()
    length = struct.unpack_from("<I", data, 12)[0]
    newer = data[:8] + struct.pack("<I", FORMAT + 1) + data[12 : 16 + length]
    with pytest.raises(MismatchError, match=f"format {FORMAT + 1}"):
        Artifact.decode(newer + hashlib.sha256(newer).digest() + data[48 + length :])


def test_a_hostile_size_is_refused_before_anything_is_allocated() -> None:
    artifact = make(tensor_bytes=2**45)
    with pytest.raises(DamageError, match="claim"):
        artifact.tensors()
    with pytest.raises(DamageError, match="claims"):
        make(tensor_bytes=100).tensors()


def test_a_frame_without_a_size_or_with_damage_is_refused() -> None:
    frame = bytearray(zstd.compress(b"hello " * 100))
    assert zstd.decompress(bytes(frame), 600) == b"hello " * 100
    frame[-1] ^= 1  # the checksum
    with pytest.raises(DamageError, match="damaged"):
        zstd.decompress(bytes(frame), 600)
    with pytest.raises(DamageError):
        zstd.decompress(b"not zstd", 600)


def test_what_is_not_safetensors_is_refused() -> None:
    with pytest.raises(DamageError, match="tensors"):
        tensors.from_bytes(b"\xff" * 64)


def test_equal_tensors_give_equal_bytes() -> None:
    a, b = torch.ones(3), torch.zeros(2)
    assert tensors.to_bytes({"a": a, "b": b}) == tensors.to_bytes({"b": b, "a": a})


def test_sixteen_bits_keep_eleven_of_mantissa_and_never_overflow() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 20
    half = tensors.to_16_bit(x)
    assert half.dtype is torch.float16
    assert float(((half.float() - x) / x).abs().max()) <= 2**-11
    big = tensors.to_16_bit(torch.tensor([1e6, -3.0]))
    assert big.dtype is torch.bfloat16
    assert torch.isfinite(big).all()
    kept = torch.ones(2, dtype=torch.bfloat16)
    assert tensors.to_16_bit(kept) is kept
    assert tensors.to_16_bit(torch.empty(0)).dtype is torch.float16


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from([1, 7, 8, 32, 33, 64, 96]),
    st.integers(-24, 15),
    st.integers(0, 2**31),
)
def test_eight_bits_are_off_by_half_a_scale_at_most(
    shape: list[int], width: int, exponent: int, seed: int
) -> None:
    """Any shape, any size that float16 has; the result is a float16 as well."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(*shape, width, generator=draw) * 2 - 1
    x = x * 2.0**exponent * torch.rand(*shape, 1, generator=draw) ** 4  # groups of unlike size
    whole, scale = tensors.to_int8(x)
    assert (whole.dtype, scale.dtype) == (torch.int8, torch.float16)
    assert (whole.shape, scale.shape[:-1]) == (x.shape, x.shape[:-1])
    again = tensors.from_int8(whole, scale)
    assert again.dtype is torch.float16
    each = scale.float().repeat_interleave(width // scale.shape[-1], dim=-1)
    assert bool(((again.float() - x).abs() <= each * 0.5 * 1.001 + x.abs() * 2**-11).all())


def test_eight_bits_of_nothing_are_nothing() -> None:
    whole, scale = tensors.to_int8(torch.zeros(2, 3, 64))
    assert not tensors.from_int8(whole, scale).any()


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (3, 5), (3, 0)])
def test_scales_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    whole, scale = tensors.to_int8(torch.randn(3, 64))
    assert scale.shape == (3, 2)
    with pytest.raises(DamageError, match="scales"):
        tensors.from_int8(whole, torch.ones(shape, dtype=torch.float16))


def test_eight_bits_of_what_float16_cannot_hold_do_not_overflow() -> None:
    x = torch.tensor([1e6, -3e5, 70_000.0, 1.0])
    again = tensors.from_int8(*tensors.to_int8(x)).float()
    torch.testing.assert_close(again, x, rtol=0, atol=1e6 / 127)


@pytest.mark.parametrize("version", [1, 2])
def test_older_formats_are_still_read_and_annotated_as_what_they_are(version: int) -> None:
    """Files that older versions wrote: 1 knew of no fitting, 2 of no planes."""
    data = (Path(__file__).parent / "formats" / f"format_{version}.pca").read_bytes()
    assert struct.unpack_from("<I", data, 8) == (version,)
    artifact = Artifact.decode(data)
    assert artifact.header.fit == {}
    again = Artifact.decode(Artifact(replace(artifact.header, timing={}), artifact.body).encode())
    assert struct.unpack_from("<I", again.encode(), 8) == (2,)
    for read in (artifact, again):
        found = read.tensors()
        assert torch.equal(found["keys"], torch.arange(12.0).reshape(3, 4).half())
        assert found["length"].tolist() == [7]


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.uint8, torch.int32)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from((*_DTYPES, torch.float64, torch.bool, torch.complex64)),
    st.binary(min_size=16, max_size=400),
)
def test_planes_keep_every_bit(shape: list[int], dtype: torch.dtype, noise: bytes) -> None:
    """Of any shape, none and nothing included, and of any content: of NaNs too, all bits."""
    size = math.prod(shape) * dtype.itemsize
    octets = torch.tensor(list((noise * (size // len(noise) + 1))[:size]), dtype=torch.uint8)
    octets = octets % 2 if dtype is torch.bool else octets
    tensor = octets.view(dtype).reshape(shape)
    raw = tensors.to_planes({"x": tensor})
    (found,) = tensors.from_planes(raw).values()
    assert (found.dtype, found.shape) == (dtype, tensor.shape)
    assert torch.equal(found.reshape(-1).view(torch.uint8), octets)
    assert len(raw) == len(tensors.to_bytes({"x": tensor}))
    assert tensors.to_planes({"x": found}) == raw


def test_planes_put_first_bytes_first() -> None:
    numbers = torch.tensor([0x0102, 0x0304, 0x0506], dtype=torch.int16)
    assert tensors.to_planes({"x": numbers}).endswith(bytes([2, 4, 6, 1, 3, 5]))


def test_planes_of_a_view_are_those_of_its_copy() -> None:
    whole = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).half()
    for view in (whole.T, whole[:, ::2], whole[2]):
        raw = tensors.to_planes({"x": view.requires_grad_()})
        assert raw == tensors.to_planes({"x": view.detach().clone()})
        assert torch.equal(tensors.from_planes(raw)["x"], view)


def test_planes_make_16_bit_noise_smaller_than_zstd_alone_does() -> None:
    x = {"x": torch.randn(500_000, generator=torch.Generator().manual_seed(0)).half()}
    plain, planes = (len(zstd.compress(f(x))) for f in (tensors.to_bytes, tensors.to_planes))
    assert planes < 0.95 * plain
