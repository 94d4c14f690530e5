"""Runs every kernel on small inputs with triton's interpreter; prints errors against plain torch.

A process of its own: triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch

from pcompiler.bench.kernel_inputs import Case, cases
from pcompiler.kernels.op import relative_error

CPU = torch.device("cpu")


def error(case: Case) -> float:
    """The largest of a case's outputs."""
    (path,) = (path for path in case.op.paths if path.name == "triton")
    kernel = path.function()
    assert kernel is not None, path.missing
    found, wanted = kernel(*case.inputs(CPU)), case.op.twin(*case.inputs(CPU))
    pairs = zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]
    errors = [0.0]
    for ours, twin in pairs:
        assert (ours.shape, ours.dtype) == (twin.shape, twin.dtype), (case.name, ours, twin)
        errors.append(relative_error(ours, twin))
    return max(errors)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    some = [c for c in cases(large=False) if not wanted or c.op.name in wanted]
    print(json.dumps({c.name: error(c) for c in some}))
