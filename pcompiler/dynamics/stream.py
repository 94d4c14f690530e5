"""What a walk remembers of every token: in memory while it is little, in files after that."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import torch

from pcompiler.device import Device

IN_MEMORY_BYTES = 2**25  # of one stream


class Stream:
    """A (t, width) tensor for each pack, kept in an unlinked file when they are large together.

    Args:
        device: where they are when read, and in which dtype.
        lengths: tokens of each pack.
        width: numbers a token.
    """

    def __init__(self, device: Device, lengths: Sequence[int], width: int) -> None:
        self._device = device.handle
        whole = _allocate(sum(lengths), width, device.dtype)
        self._parts = torch.split(whole, list(lengths))

    def __getitem__(self, pack: int) -> torch.Tensor:
        return self._parts[pack].to(self._device)

    def __setitem__(self, pack: int, value: torch.Tensor) -> None:
        self._parts[pack].copy_(value)


def _allocate(rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    if rows * width * dtype.itemsize <= IN_MEMORY_BYTES:
        return torch.empty(rows, width, dtype=dtype)
    with tempfile.NamedTemporaryFile(prefix="pcompiler-") as file:  # unlinked, but mapped
        flat = torch.from_file(file.name, shared=True, size=rows * width, dtype=dtype)
        return flat.view(rows, width)
