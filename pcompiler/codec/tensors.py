"""Named tensors ↔ safetensors bytes, and the 16-bit form that keys and values are stored in."""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError

from pcompiler.errors import DamageError

_HALF_LIMIT = 60_000.0  # float16 ends at 65,504


def to_bytes(tensors: dict[str, torch.Tensor]) -> bytes:
    """Named tensors as safetensors bytes; equal tensors give equal bytes."""
    return safetensors.torch.save({k: t.cpu().contiguous() for k, t in tensors.items()})


def from_bytes(data: bytes) -> dict[str, torch.Tensor]:
    """Undo ``to_bytes``.

    Raises:
        DamageError: not safetensors, or its table does not fit the bytes.
    """
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as e:
        raise DamageError(f"the tensors cannot be read: {e}.") from None


def to_16_bit(tensor: torch.Tensor) -> torch.Tensor:
    """The nearest 16-bit form: float16 for its 11-bit mantissa, bfloat16 where that would overflow.

    Tensors that are 16-bit already are returned as they are.
    """
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor
    fits = tensor.numel() == 0 or float(tensor.abs().max()) < _HALF_LIMIT
    return tensor.to(torch.float16 if fits else torch.bfloat16)
