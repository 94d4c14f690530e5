"""What a walk remembers of every token: in memory while it is little, in files after that."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import torch

from pcompiler.device import Device

IN_MEMORY_BYTES = 2**25  # of one stream
ON_DEVICE_BYTES = 2**28  # of one stream on an accelerator, where each move from the host is a wait


class Stream:
    """A (t, width) tensor for each pack, kept in an unlinked file when they are large together.

    On an accelerator they stay there while they are not.

    Args:
        device: where they are when read, and in which dtype.
        lengths: tokens of each pack.
        width: numbers a token.
    """

    def __init__(self, device: Device, lengths: Sequence[int], width: int) -> None:
        self._device = device.handle
        whole = _allocate(sum(lengths), width, device)
        self._parts = torch.split(whole, list(lengths))

    def __getitem__(self, pack: int) -> torch.Tensor:
        return self._parts[pack].to(self._device)

    def __setitem__(self, pack: int, value: torch.Tensor) -> None:
        self._parts[pack].copy_(value)


def _allocate(rows: int, width: int, device: Device) -> torch.Tensor:
    size, dtype = rows * width * device.dtype.itemsize, device.dtype
    if not device.is_host and size <= ON_DEVICE_BYTES:
        return torch.empty(rows, width, dtype=dtype, device=device.handle)
    if size <= IN_MEMORY_BYTES:
        return torch.empty(rows, width, dtype=dtype)
    with tempfile.NamedTemporaryFile(prefix="pcompiler-") as file:  # unlinked, but mapped
        flat = torch.from_file(file.name, shared=True, size=rows * width, dtype=dtype)
        return flat.view(rows, width)
