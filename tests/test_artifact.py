"""The artifact format, by its bytes; tensors in their stored form."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace

import pytest
import torch

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
