"""The artifact format, by its bytes; tensors in their stored form."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, replace

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
    raw = tensors.to_bytes(content or {"keys": torch.arange(12.0).reshape(3, 4)})
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


def test_format_1_which_knew_of_no_fitting_is_still_read() -> None:
    header = make().header
    fields = asdict(header)
    fit, fidelity = fields.pop("fit"), fields["fidelity"]
    for name in ("kl_uncovered", "agreement_uncovered", "probes_uncovered"):
        del fidelity[name]
    text = json.dumps(fields, sort_keys=True).encode()
    record = struct.pack("<8sII", b"PCOMPILE", 1, len(text)) + text
    found, _ = Header.parse(record + hashlib.sha256(record).digest())
    assert found == header
    assert fit == {}
