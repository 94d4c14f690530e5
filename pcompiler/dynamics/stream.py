"""What a walk remembers of every token: in memory while it is little, in files after that."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from itertools import accumulate

import torch

from pcompiler.device import Device

IN_MEMORY_BYTES = 2**25  # of one stream, or of those alike that are there together
ON_DEVICE_BYTES = 2**28  # the same on an accelerator, where each move from the host is a wait


class Stream:
    """A (t, width) tensor for each pack, kept in an unlinked file when they are large together.

    On an accelerator they stay there while they are not.

    Args:
        device: where they are when read.
        lengths: tokens of each pack.
        width: numbers a token.
        dtype: of them; none: the model's.
        alike: streams of this size that are there together.
    """

    def __init__(
        self,
        device: Device,
        lengths: Sequence[int],
        width: int,
        dtype: torch.dtype | None = None,
        alike: int = 1,
    ) -> None:
        self._device = device.handle
        self._file: mmap.mmap | None = None
        shape, dtype = (sum(lengths), width), dtype or device.dtype
        together = shape[0] * width * dtype.itemsize * alike
        if not device.is_host and together <= ON_DEVICE_BYTES:
            self._whole = torch.empty(shape, dtype=dtype, device=self._device)
        elif together <= IN_MEMORY_BYTES:
            self._whole = torch.empty(shape, dtype=dtype)
        else:
            self._file = _mapped(together // alike)
            self._whole = torch.frombuffer(self._file, dtype=dtype).view(shape)
        self._ends = [0, *accumulate(lengths)]

    def rest(self) -> None:
        """Let the system have the memory of what is in a file, until it is read again."""
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)

    def __getitem__(self, packs: int | slice) -> torch.Tensor:
        """Of one pack, or of some that follow each other, end to end."""
        return self._part(packs).to(self._device)

    def __setitem__(self, packs: int | slice, value: torch.Tensor) -> None:
        self._part(packs).copy_(value)

    def _part(self, packs: int | slice) -> torch.Tensor:
        self.rest()  # so that no more than one part is in memory
        one = slice(packs, packs + 1) if isinstance(packs, int) else packs
        return self._whole[self._ends[one.start] : self._ends[one.stop]]


def _mapped(size: int) -> mmap.mmap:
    """So many bytes of a file that nobody else sees."""
    with tempfile.TemporaryFile(prefix="pcompiler-") as file:  # stays as long as it is mapped
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)
