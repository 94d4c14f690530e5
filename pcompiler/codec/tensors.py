"""Named tensors ↔ safetensors bytes, and the 16-bit form that keys and values are stored in."""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError

from pcompiler.errors import DamageError

GROUP = 32  # numbers that share a scale in 8 bit
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


def row_bytes(width: int, bits: int) -> int:
    """What so many numbers of a tensor's last dimension take in 16 or, scales included, 8 bit."""
    return 2 * width if bits == 16 else width + 2 * (width // _group(width))


def _group(width: int, group: int = GROUP) -> int:
    """Numbers that share a scale: all of a row where groups do not divide it."""
    return group if width % group == 0 else width


def to_int8(tensor: torch.Tensor, group: int = GROUP) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to 8 bit with one float16 scale for each group of the last dimension.

    Args:
        tensor: (…, d).
        group: numbers that share a scale; all d where it does not divide d.

    Returns:
        int8 (…, d) and scales (…, d/group): the error is at most half a scale.
    """
    width = tensor.shape[-1]
    group = _group(width, group)
    parts = tensor.float().reshape(*tensor.shape[:-1], width // group, group)
    # More than float16's rounding takes, for normal numbers and below: 127 scales reach the top.
    scale = (parts.abs().amax(-1) / 127 * (1 + 2**-10) + 2.0**-24).to(torch.float16)
    whole = (parts / scale.float()[..., None]).round().clamp(-127, 127).to(torch.int8)
    return whole.flatten(-2), scale


def from_int8(whole: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Undo ``to_int8``, as float16; as bfloat16 where that would overflow.

    Raises:
        DamageError: the scales do not fit the numbers.
    """
    groups = scale.shape[-1] if scale.dim() else 0
    if whole.shape[:-1] != scale.shape[:-1] or not groups or whole.shape[-1] % groups:
        raise DamageError(
            f"scales of shape {tuple(scale.shape)} do not fit tensors of {tuple(whole.shape)}."
        )
    parts = whole.float().reshape(*scale.shape, whole.shape[-1] // groups)
    parts *= scale.float()[..., None]
    return to_16_bit(parts.flatten(-2))
