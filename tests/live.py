"""Counts the bytes of tensors that are alive, as operators make them and Python lets them go."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Live(TorchDispatchMode):
    """While it lasts.

    What an operator needs within itself is not seen; what it gives back is, once for each storage.

    Attributes:
        now: bytes of what was made since the beginning and is still there.
        peak: the most that there were at once.
        largest: bytes of the largest single tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.largest = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self._see((args, kwargs), counts=False)  # made before: weights
        found = func(*args, **(kwargs or {}))
        self._see(found, counts=True)
        return found

    def _see(self, tensors: Any, counts: bool) -> None:
        for tensor in tree_flatten(tensors)[0]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._watch(storage, storage.nbytes() if counts else 0)

    def _watch(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        self.now += size
        self.peak, self.largest = max(self.peak, self.now), max(self.largest, size)

        def gone(_: object) -> None:
            del self._known[key]
            self.now -= size

        self._known[key] = weakref.ref(storage, gone)
