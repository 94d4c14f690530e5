"""The artifact format: a header that stands alone, then tensors; both checksummed.

    offset  bytes  what
    0       8      magic "PCOMPILE"
    8       4      format version, little-endian
    12      4      h, length of the header
    16      h      header, UTF-8 JSON with sorted keys
    16+h    32     SHA-256 of all bytes before it
    48+h    …      body: one zstd frame (with its own XXH64) of safetensors bytes, in planes
                   (see ``codec/tensors.py``) since format 3

The first four parts are the header record. The store keeps it apart from the body, so that a
listing reads no tensors; a file has the two joined. Torch is imported only to read tensors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pcompiler.codec import zstd
from pcompiler.errors import DamageError, MismatchError
from pcompiler.ir import Fidelity

if TYPE_CHECKING:
    import torch

MAGIC = b"PCOMPILE"
FORMAT = 3  # 2 added ``fit`` and what fidelity says of uncovered facts; 3, planes
OLDEST_READ = 1
_WHOLE = 2  # the last format whose tensors are not in planes
MAX_HEADER_BYTES = 2**20
_FIXED = struct.Struct("<8sII")
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Header:
    """What is known of an artifact without its tensors.

    Attributes:
        id: content address.
        target: kv, text, weights, hybrid.
        model_name: what the user called the model.
        model: the model's card, as a dictionary; see ``ModelCard``.
        config: fingerprint of the settings.
        prompt_hash: content hash of the prompt's source.
        probes_hash: content hash of the probes that fidelity was measured on.
        probes_from: "queries" or "self-study".
        answer_limit: tokens of an answer at most, when fidelity was measured.
        context_tokens: tokens of the full prompt, template included.
        kept_tokens: tokens that the artifact keeps.
        before: what the chat template puts between the context and a query.
        after: what it puts between a query and the answer.
        fidelity: measured on held-out probes, both bounds included.
        created: ISO 8601, UTC. With ``timing`` the only part that a repeated compile changes.
        timing: seconds on the machine that compiled: compile_s, measure_s, ttft_s, full_ttft_s
            (first token with the full prompt, which is read first); where it was fitted on probes,
            of compile_s also probing_s, walk_s and, of the walk, solving_s.
        body_bytes: length of the body.
        body_sha256: its hash.
        tensor_bytes: its length once decompressed.
        parent: id of the artifact that this one was made from, if any.
        fit: what was chosen while fitting (factor, rank, strength, probes); empty: nothing was.
        format: 3, or 2 for a body of that or an older format, which a new header leaves as it is.
    """

    id: str
    target: str
    model_name: str
    model: dict[str, Any]
    config: str
    prompt_hash: str
    probes_hash: str
    probes_from: str
    answer_limit: int
    context_tokens: int
    kept_tokens: int
    before: str
    after: str
    fidelity: Fidelity
    created: str
    timing: dict[str, float]
    body_bytes: int
    body_sha256: str
    tensor_bytes: int
    parent: str | None = None
    fit: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def record(self) -> bytes:
        """The header record: magic, version, length, JSON, digest."""
        fields = dataclasses.asdict(self)
        version = fields.pop("format")
        text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        record = _FIXED.pack(MAGIC, version, len(text)) + text
        return record + hashlib.sha256(record).digest()

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole artifact, as a file has them."""
        return len(self.record()) + self.body_bytes

    @classmethod
    def parse(cls, data: bytes) -> tuple[Header, int]:
        """Read a header record at the head of ``data``; returns it and its length.

        Raises:
            DamageError: not an artifact, cut short, or a digest that does not match.
            MismatchError: a newer format.
        """
        if len(data) < _FIXED.size or not data.startswith(MAGIC):
            raise DamageError("it does not begin as a pcompiler artifact does.")
        _, version, length = _FIXED.unpack_from(data)
        end = _FIXED.size + length
        whole = length <= MAX_HEADER_BYTES and len(data) >= end + _DIGEST_BYTES
        if not whole or hashlib.sha256(data[:end]).digest() != data[end : end + _DIGEST_BYTES]:
            raise DamageError("its header is cut short or damaged.")
        if not OLDEST_READ <= version <= FORMAT:
            raise MismatchError(
                f"it has format {version}; this pcompiler reads {OLDEST_READ} to {FORMAT}. "
                "Update pcompiler."
            )
        try:
            fields = json.loads(data[_FIXED.size : end])
            fidelity = Fidelity(**fields.pop("fidelity"))
            header = cls(fidelity=fidelity, **fields, format=max(version, _WHOLE))
            return header, end + _DIGEST_BYTES
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise DamageError(
                f"its header does not read as one of format {version}: {e}."
            ) from None


@dataclass(frozen=True)
class Artifact:
    """A header and its body."""

    header: Header
    body: bytes

    def encode(self) -> bytes:
        """The artifact as a file's bytes."""
        return self.header.record() + self.body

    @classmethod
    def decode(cls, data: bytes) -> Artifact:
        """Read a file's bytes; every byte is checked.

        Raises:
            DamageError, MismatchError: see ``Header.parse``; also a body that is not whole.
        """
        header, start = Header.parse(data)
        artifact = cls(header, data[start:])
        artifact.check()
        return artifact

    def check(self) -> None:
        """Compare the body with what the header says of it.

        Raises:
            DamageError: another length or another hash.
        """
        self._check_length()
        if hashlib.sha256(self.body).hexdigest() != self.header.body_sha256:
            raise DamageError(f"artifact {self.header.id}: its body is damaged.")

    def tensors(self) -> dict[str, torch.Tensor]:
        """The named tensors; length, plausible size and zstd's checksum are verified.

        Raises:
            DamageError: the body is not what was written.
        """
        from pcompiler.codec.tensors import from_bytes, from_planes

        self._check_length()
        read = from_bytes if self.header.format <= _WHOLE else from_planes
        return read(zstd.decompress(self.body, self.header.tensor_bytes))

    def _check_length(self) -> None:
        have, want = len(self.body), self.header.body_bytes
        if have != want:
            raise DamageError(f"artifact {self.header.id}: its body has {have} bytes, not {want}.")
