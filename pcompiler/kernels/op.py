"""An operation with a plain torch twin, and faster paths for some of its inputs.

A path is taken where its condition holds and it could be loaded; else the twin runs. With
``PCOMPILER_CHECK=1`` both run on the same inputs and are compared, with ``PCOMPILER_PLAIN=1`` the
twin alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

import torch

from pcompiler.errors import KernelError

P = ParamSpec("P")
R = TypeVar("R", bound="torch.Tensor | tuple[torch.Tensor, ...]")


class Unavailable(Exception):  # noqa: N818 - a state that is told, not a fault
    """A path cannot be had on this machine; says why."""


@dataclass
class Path(Generic[P, R]):
    """A faster way, loaded when it is first wanted.

    Attributes:
        name: as in ``cpp`` or ``triton``.
        takes: whether it is meant for these inputs: device, dtype, sizes at which it is faster.
        load: makes the function; raises Unavailable.
        missing: why it cannot be had; none: it can, or nobody has tried.
    """

    name: str
    takes: Callable[P, bool]
    load: Callable[[], Callable[P, R]]
    missing: str | None = None
    _function: Callable[P, R] | None = None

    def function(self) -> Callable[P, R] | None:
        """What to call; none where it cannot be had."""
        if self._function is None and self.missing is None:
            try:
                self._function = self.load()
            except Unavailable as e:
                self.missing = str(e)
        return self._function


class Op(Generic[P, R]):
    """A function of tensors; it writes to none of them.

    Args:
        twin: the plain torch form, which is what the operation means.
        tolerance: ‖fast − twin‖ / ‖twin‖ that rounding explains.
    """

    def __init__(self, twin: Callable[P, R], tolerance: float = 1e-5) -> None:
        self.name, self.twin, self.tolerance = twin.__name__, twin, tolerance
        self.__doc__ = twin.__doc__
        self.paths: list[Path[P, R]] = []

    def faster(
        self, name: str, takes: Callable[P, bool], load: Callable[[], Callable[P, R]]
    ) -> None:
        """Declare a path; those declared first are tried first."""
        self.paths.append(Path(name, takes, load))

    def __call__(self, *args: P.args, **named: P.kwargs) -> R:
        """Run the first path that takes the inputs, else the twin."""
        if os.environ.get("PCOMPILER_PLAIN") == "1":
            return self.twin(*args, **named)
        path = self.path(*args, **named)
        fast = path.function() if path else None
        if path is None or fast is None:
            return self.twin(*args, **named)
        found = fast(*args, **named)
        if os.environ.get("PCOMPILER_CHECK") == "1":
            self.check(path.name, found, self.twin(*args, **named))
        return found

    def path(self, *args: P.args, **named: P.kwargs) -> Path[P, R] | None:
        """The first that takes these inputs and can be had; none: the twin runs."""
        for path in self.paths:
            if path.takes(*args, **named) and path.function():
                return path
        return None

    def chosen(self, *args: P.args, **named: P.kwargs) -> str:
        """Which way these inputs go, and why not a faster one: for people."""
        why = []
        for path in self.paths:
            if not path.takes(*args, **named):
                why.append(f"{path.name}: not for these inputs")
            elif path.function() is None:
                why.append(f"{path.name}: {path.missing}")
            else:
                return path.name
        return f"torch ({'; '.join(why)})" if why else "torch"

    def check(self, path: str, found: R, right: R) -> None:
        """Compare a path's result with the twin's. Raises KernelError: it is another."""
        pairs = zip(_several(found), _several(right), strict=True)
        for number, (ours, twin) in enumerate(pairs):
            what = f"{self.name}: path {path!r}, output {number}"
            if ours.shape != twin.shape or ours.dtype != twin.dtype:
                raise KernelError(
                    f"{what}: {tuple(ours.shape)} {ours.dtype} where plain torch has "
                    f"{tuple(twin.shape)} {twin.dtype}. Set PCOMPILER_PLAIN=1 and report this."
                )
            error = relative_error(ours, twin)
            # Nothing in 16 bits is nearer than their last one; NaN is no less than anything.
            allowed = max(self.tolerance, torch.finfo(twin.dtype).eps)
            if not error <= allowed:
                raise KernelError(
                    f"{what} of shape {tuple(twin.shape)} is {error:.2e} away from plain torch, "
                    f"{allowed:.0e} is allowed. Set PCOMPILER_PLAIN=1 and report this."
                )


def relative_error(ours: torch.Tensor, right: torch.Tensor) -> float:
    """‖ours − right‖ / ‖right‖; 0 for two that are equal, infinities included."""
    if torch.equal(ours, right):
        return 0.0
    difference = (ours.float() - right.float()).norm()
    return float(difference / right.float().norm().clamp_min(1e-30))


def _several(result: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (result,) if isinstance(result, torch.Tensor) else result
