"""Sees in which precision the compiler's own code adds up."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pcompiler

SUMS = {"sum", "mean", "logsumexp", "_softmax", "_log_softmax", "linalg_vector_norm", "cumsum"}
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "dot", "mv"}
ADDS = SUMS | PRODUCTS | {"add_", "addmm_", "baddbmm_", "addcmul_"}
RUNS = {"add_low_rank", "prefix_attention"}  # at work: in the model's own precision
HALVES = (torch.float16, torch.bfloat16)
HOME = Path(pcompiler.__file__).parent
OURS = tuple(str(HOME / name) for name in ("dynamics", "ops.py", "attention.py"))
MODEL = ("torch/nn/modules", "transformers")  # a layer of the model, called by our code


class Sums(TorchDispatchMode):
    """While it lasts: sums, products of matrices and additions in place in our dynamics and ops.

    Attributes:
        whole: how many gave more than 16 bit.
        halves: of the others, the operator and the line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.halves = 0, set[str]()

    def __torch_dispatch__(
        self,
        func: Any,
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ADDS and found.is_floating_point():
            line = _our_line(sys._getframe(1))
            if line is not None and found.dtype in HALVES:
                self.halves.add(f"{name} at {line}")
            self.whole += line is not None and found.dtype not in HALVES
        return found


def _our_line(frame: FrameType | None) -> str | None:
    """Where in our dynamics, operations or attention it was called; none: the model computes."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(OURS) and frame.f_code.co_name not in RUNS:
            return f"{Path(file).name}:{frame.f_lineno}"
        if any(part in file for part in MODEL) or "/pcompiler/" in file:
            return None
        frame = frame.f_back
    return None
