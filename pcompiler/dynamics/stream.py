"""What a walk remembers of every token: in memory while it is little, in files after that."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import accumulate

import torch

from pcompiler.device import Device

IN_MEMORY_BYTES = 2**25  # of one stream
ON_DEVICE_BYTES = 2**28  # of one stream on an accelerator, where each move from the host is a wait


class Stream:
    """A (t, width) tensor for each pack, kept in an unlinked file when they are large together.

    On an accelerator they stay there while they are not.

    Args:
        device: where they are when read.
        lengths: tokens of each pack.
        width: numbers a token.
        dtype: of them; none: the model's.
    """

    def __init__(
        self,
        device: Device,
        lengths: Sequence[int],
        width: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._device = device.handle
        self._whole = _allocate(sum(lengths), width, device, dtype or device.dtype)
        self._ends = [0, *accumulate(lengths)]

    def __getitem__(self, packs: int | slice) -> torch.Tensor:
        """Of one pack, or of some that follow each other, end to end."""
        return self._part(packs).to(self._device)

    def __setitem__(self, packs: int | slice, value: torch.Tensor) -> None:
        self._part(packs).copy_(value)

    def _part(self, packs: int | slice) -> torch.Tensor:
        one = slice(packs, packs + 1) if isinstance(packs, int) else packs
        return self._whole[self._ends[one.start] : self._ends[one.stop]]


def _allocate(rows: int, width: int, device: Device, dtype: torch.dtype) -> torch.Tensor:
    size = rows * width * dtype.itemsize
    if not device.is_host and size <= ON_DEVICE_BYTES:
        return torch.empty(rows, width, dtype=dtype, device=device.handle)
    if size <= IN_MEMORY_BYTES:
        return torch.empty(rows, width, dtype=dtype)
    with tempfile.NamedTemporaryFile(prefix="pcompiler-") as file:  # unlinked, but mapped
        flat = torch.from_file(file.name, shared=True, size=rows * width, dtype=dtype)
        return flat.view(rows, width)
