"""Named tensors ↔ safetensors bytes, as they are or in planes; the forms they are rounded to.

In planes, a tensor's first bytes stand together, then all second ones, and so on. Of 16-bit keys
and values one plane has the exponents, which zstd shortens by a third, and the other is noise,
which it then copies: smaller and sooner read than the two mixed. Channels standing together, or
differences between tokens, were measured too, and gain less than they take to undo.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError

from pcompiler.errors import DamageError
from pcompiler.ranges import ranged

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


@ranged("codec to planes")
def to_planes(tensors: dict[str, torch.Tensor]) -> bytes:
    """Named tensors as safetensors bytes, each one's bytes in planes; as long as ``to_bytes``."""
    return to_bytes({name: _split(tensor) for name, tensor in tensors.items()})


@ranged("codec from planes")
def from_planes(data: bytes) -> dict[str, torch.Tensor]:
    """Undo ``to_planes``, bit for bit. Raises DamageError: see ``from_bytes``."""
    found = from_bytes(data)
    return {name: _merge(found.pop(name)) for name in list(found)}  # never all of them twice


def _split(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape and type whose memory has the other's bytes in planes."""
    each = _octets(tensor).reshape(-1, tensor.element_size())
    return _like(tensor, np.ascontiguousarray(each.T))


def _merge(tensor: torch.Tensor) -> torch.Tensor:
    """Undo ``_split``."""
    if tensor.element_size() == 1:
        return tensor
    planes = _octets(tensor).reshape(tensor.element_size(), -1)
    whole = np.empty(planes.shape[::-1], np.uint8)
    for place, plane in enumerate(planes):  # three times as fast as a transposed copy
        whole[:, place] = plane
    return _like(tensor, whole)


def _octets(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    flat: npt.NDArray[np.uint8] = (
        tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    )
    return flat


def _like(tensor: torch.Tensor, octets: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(octets.reshape(-1)).view(tensor.dtype).reshape(tensor.shape)


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
    return to_16_bit(scaled(whole, scale))


def scaled(whole: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Undo ``to_int8``, as float32. Raises DamageError: see ``from_int8``."""
    groups = scale.shape[-1] if scale.dim() else 0
    if whole.shape[:-1] != scale.shape[:-1] or not groups or whole.shape[-1] % groups:
        raise DamageError(
            f"scales of shape {tuple(scale.shape)} do not fit tensors of {tuple(whole.shape)}."
        )
    parts = whole.float().reshape(*scale.shape, whole.shape[-1] // groups)
    parts *= scale.float()[..., None]
    return parts.flatten(-2)
