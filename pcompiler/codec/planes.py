"""safetensors bytes out of planes, without torch: for processes that only pass tensors on."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from pcompiler.errors import DamageError

_LENGTH = struct.Struct("<Q")
_WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4}
_WIDTHS |= {"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def whole(data: bytes) -> bytes:
    """What ``to_bytes(from_planes(data))`` of ``codec.tensors`` gives, byte for byte.

    Raises:
        DamageError: not safetensors, or its table does not fit the bytes.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        start = _LENGTH.size + length
        table: dict[str, Any] = json.loads(data[_LENGTH.size : start])
        merged = bytearray(data)
        for name, entry in table.items():
            if name == "__metadata__":
                continue
            begin, end = (start + int(offset) for offset in entry["data_offsets"])
            _merge(merged, begin, end, _WIDTHS[entry["dtype"]])
    except (ValueError, TypeError, KeyError, struct.error) as e:
        raise DamageError(f"the tensors cannot be read: {e}.") from None
    return bytes(merged)


def _merge(data: bytearray, begin: int, end: int, width: int) -> None:
    """Put the planes of one tensor together, in place."""
    if not 0 <= begin <= end <= len(data):
        raise ValueError("a tensor ends outside of the bytes")
    octets = np.frombuffer(data, np.uint8, end - begin, begin)
    octets[:] = octets.reshape(width, -1).T.reshape(-1)
