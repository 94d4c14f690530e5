"""A pretended accelerator: tensors that say they are on it, computed on the host for real.

Operations between them and tensors of the host are refused, as a real accelerator refuses them, and
so is NumPy; a single number may be on either. So a suite that makes a tensor on the wrong device
fails here, on a machine that has no accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from pcompiler import device as devices

ELSEWHERE = torch.device("xpu:0")  # of a kind for which the library has no code of its own
HOST = torch.device("cpu")
_DEVICE = torch.Tensor.device.__get__  # type: ignore[attr-defined]
_ON_CPU = torch.Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_NAMING = {torch.device, torch._C._nn._parse_to}  # devices, with no tensor on them
# May mix both, as they do on an accelerator.
_COPIES = {torch.Tensor.copy_, torch.Tensor.to, torch.Tensor.type_as}
_COPIES |= {torch._has_compatible_shallow_copy_type}  # what Module.to asks of both
_INDEXING = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_TO_HOST = {torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.__repr__, torch.Tensor.__format__}
_NUMPY = {torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.data_ptr}


class Elsewhere(torch.Tensor):
    """A tensor that says it is on the accelerator."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class WrongDeviceError(RuntimeError):
    """What a real accelerator would refuse."""


@contextmanager
def accelerator(patch: pytest.MonkeyPatch, mode: Pretended | None = None) -> Iterator[Pretended]:
    """Have a device that ``pick`` prefers, while this lasts."""
    mode = mode or Pretended()
    patch.setattr(devices, "available", lambda: [str(mode.place), "cpu"])
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with mode:
            yield mode
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


class Pretended(TorchFunctionMode):
    """Counts what was computed on the accelerator in ``operations``.

    Args:
        place: which device the tensors say they are on.
    """

    def __init__(self, place: torch.device = ELSEWHERE) -> None:
        super().__init__()
        self.place, self.operations = place, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NAMING:
            return func(*args, **kwargs)
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        away = [isinstance(t, Elsewhere) for t in tensors]
        if func in (_DEVICE, _ON_CPU) and any(away):
            return self.place if func == _DEVICE else False
        self._check(func, tensors)
        asked = self._asked(func, args, kwargs)
        args, kwargs = tree_map(self._host, (args, kwargs))
        goes = func not in _TO_HOST and self._goes_away(func, asked, tensors, away)
        with self.computing(there=goes or any(away)):
            found = func(*args, **kwargs)
        if not goes:
            return tree_map(_plain, found) if asked == HOST else found
        self.operations += 1
        return tree_map(_away, found)

    @contextmanager
    def computing(self, there: bool) -> Iterator[None]:  # noqa: ARG002 - for subclasses
        """Around every operation; ``there``: the accelerator has part in it."""
        yield

    def _check(self, func: Callable[..., Any], tensors: list[torch.Tensor]) -> None:
        some = [t for t in tensors if t.dim() > 0 or isinstance(t, torch.nn.Parameter)]
        if func in _NUMPY and any(isinstance(t, Elsewhere) for t in tensors):
            raise WrongDeviceError(
                f"{_name(func)} of a tensor on {self.place}; copy it to the host."
            )
        if func in _COPIES or (func in _INDEXING and isinstance(tensors[0], Elsewhere)):
            return
        if len({isinstance(t, Elsewhere) for t in some}) > 1:
            shapes = ", ".join(
                f"{tuple(t.shape)} on {self.place if isinstance(t, Elsewhere) else HOST}"
                for t in tensors
            )
            raise WrongDeviceError(f"{_name(func)} between devices: {shapes}.")

    def _asked(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> torch.device | None:
        """The device that a call names, if it names one."""
        if func is torch.Tensor.cpu:
            return HOST
        given = [kwargs.get("device"), *(args[1:] if func is torch.Tensor.to else ())]
        if func is torch.Tensor.to:
            given += [kwargs.get("other")]
        for value in given:
            if isinstance(value, torch.Tensor):
                return self.place if isinstance(value, Elsewhere) else HOST
            if isinstance(value, torch.device):
                return value
            if isinstance(value, str):
                return torch.device(value)
        return None

    def _goes_away(
        self,
        func: Callable[..., Any],
        asked: torch.device | None,
        tensors: list[torch.Tensor],
        away: list[bool],
    ) -> bool:
        """Whether results are on the accelerator: as asked, or where the first operand is."""
        if asked is not None:
            return asked.type == self.place.type
        if func in _COPIES or func in _INDEXING:
            return bool(away) and away[0]
        with_sides = [a for t, a in zip(tensors, away, strict=True) if t.dim()]
        return any(with_sides or away)

    def _host(self, value: Any) -> Any:
        if isinstance(value, torch.device) and value.type == self.place.type:
            return HOST
        if isinstance(value, str) and value == str(self.place):
            return "cpu"
        return value


def _plain(value: Any) -> Any:
    return value.as_subclass(torch.Tensor) if isinstance(value, Elsewhere) else value


def _away(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere):
        return value.as_subclass(Elsewhere)
    return value


def _name(func: Callable[..., Any]) -> str:
    return getattr(func, "__qualname__", None) or str(func)
