"""A pretended Apple GPU: its tensors have no float64, and only the operators that torch has for it.

Which those are is read from the list that torch's own code is generated from and that comes with
it: ``torchgen/packaged/ATen/native/native_functions.yaml``. An operator has a kernel for MPS if
its dispatch says so, or that of the operator it is generated from, or if it is composed of others.
Numbers are computed on the host for real. What this cannot show is what Metal makes of a kernel
that is there: its precision, and dtypes or sizes that the kernel itself refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchgen
import yaml
from elsewhere import Pretended, WrongDeviceError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from pcompiler import device as devices

LIST = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
MPS = torch.device("mps")
WIDE = {torch.float64, torch.complex128}
# Composed of others in C++, where a mode does not see them; those that matter.
WITHIN = {"cholesky_solve": "_cholesky_solve_helper", "linalg_lstsq": "linalg_lstsq.out"}


class MissingError(WrongDeviceError):
    """What torch would say on a Mac."""


@cache
def listed() -> Mapping[str, dict[str, Any]]:
    """Each of torch's operators, by name and overload: "sum.dim_IntList"."""
    found = yaml.load(LIST.read_text(), Loader=yaml.CSafeLoader)
    return {one["func"].split("(")[0]: one for one in found}


@cache
def kernels(operator: str) -> frozenset[str]:
    """The backends that an operator has kernels for, and ``Composite…`` where it is made of others.

    Args:
        operator: its name, with overload where it has one, without "aten::".
    """
    one = listed().get(operator)
    if one is None:
        return frozenset()
    if "structured_delegate" in one:
        return kernels(one["structured_delegate"])
    if "dispatch" not in one:
        return frozenset({"CompositeImplicitAutograd"})
    return frozenset(key.strip() for keys in one["dispatch"] for key in keys.split(","))


def on_mps(operator: str) -> bool:
    """Whether it runs on an Apple GPU."""
    found = kernels(WITHIN.get(operator, operator))
    return "MPS" in found or any(key.startswith("Composite") for key in found)


class Mac(Pretended):
    """A machine whose accelerator is an Apple GPU; ``used`` has the operators that ran on it."""

    def __init__(self) -> None:
        super().__init__(MPS)
        self._kernels, self._within = _Kernels(), ExitStack()

    @property
    def used(self) -> set[str]:
        """Operators that ran there."""
        return self._kernels.used

    @contextmanager
    def computing(self, there: bool) -> Iterator[None]:
        before, self._kernels.there = self._kernels.there, there
        try:
            yield
        finally:
            self._kernels.there = before

    def __enter__(self) -> Mac:
        self._within.enter_context(self._kernels)
        # Attention by the plain operators, as on MPS: the CPU's fused kernel is the CPU's alone.
        self._within.enter_context(sdpa_kernel(SDPBackend.MATH))
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._within.close()


def mac(patch: pytest.MonkeyPatch) -> Mac:
    """For ``accelerator``: with what the library asks torch about a Mac."""
    patch.setattr(devices, "has_kernel", lambda name, key: key in kernels(name.split("::")[1]))
    patch.setattr(torch.mps, "synchronize", lambda: None)
    patch.setattr(torch.mps, "current_allocated_memory", lambda: 0)
    return Mac()


class _Kernels(TorchDispatchMode):
    """Sees every kernel that is called, those within torch's own functions and gradients too."""

    def __init__(self) -> None:
        super().__init__()
        self.there = True  # gradients are computed without a call that says where
        self.used: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not self.there:
            return func(*args, **kwargs)
        name = func.name().split("::")[1]
        if "MPS" not in kernels(name) and "CompositeImplicitAutograd" in kernels(name):
            with self:  # seen whole where no gradients are wanted
                return func.decompose(*args, **kwargs)
        if not on_mps(name):
            raise MissingError(f"The operator 'aten::{name}' is not implemented for the MPS device")
        self.used.add(name)
        found = func(*args, **kwargs)
        self._check_width(name, (args, kwargs), found)
        return found

    def _check_width(self, name: str, given: Any, found: Any) -> None:
        some = [t for t in tree_flatten(given)[0] if isinstance(t, torch.Tensor) and t.dim()]
        some += [t for t in tree_flatten(found)[0] if isinstance(t, torch.Tensor)]
        if any(t.dtype in WIDE for t in some):
            raise MissingError(
                f"{name}: Cannot convert a MPS Tensor to float64 dtype as the MPS framework "
                "doesn't support float64. Please use float32 instead."
            )
