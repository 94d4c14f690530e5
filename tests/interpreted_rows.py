"""Decodes by the kernel of attention in triton's interpreter, and without it; prints both's gap.

A process of its own: triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from conftest import tiny
from test_batch import prefixes

from pcompiler import ops
from pcompiler.model import LanguageModel
from pcompiler.runtime.batch import BatchRow, Feed, forward
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import Prefix

ROW = (5, 1, 1, 65, 2)  # tokens that a row reads in each step; 65 are too many for the kernel
# Of each step: numbers of continuations, and tokens that each reads.
PACKED = (((0, 3), (1, 5)), ((0, 1), (2, 1)), ((1, 1), (0, 1), (2, 2)), ((2, 65),))
SINGLE = (((0, 4),), ((0, 1),), ((0, 1),))
Run = Callable[[LanguageModel, Prefix], list[torch.Tensor]]
Steps = Sequence[Sequence[tuple[int, int]]]


@contextmanager
def like_cuda(calls: list[torch.Tensor | None]) -> Iterator[None]:
    """The path of attention takes tensors on the host too; notes the mask of each call."""
    (path,) = ops.prefix_attention.paths
    kernel, takes, on_cuda = path.function(), path.takes, ops.on_cuda
    assert kernel is not None, path.missing

    def there(*inputs: Any, **named: Any) -> bool:
        ops.on_cuda = lambda _: True
        try:
            return takes(*inputs, **named)
        finally:
            ops.on_cuda = on_cuda

    def noted(*inputs: Any) -> torch.Tensor:
        calls.append(inputs[7])
        return kernel(*inputs)

    path.takes, path._function = there, noted
    try:
        yield
    finally:
        path.takes, path._function = takes, kernel


def text(length: int, seed: int) -> list[int]:
    """So many random tokens."""
    draw = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(2, 258, (length,), generator=draw).tolist()
    return found


def batched(model: LanguageModel, prefix: Prefix) -> list[torch.Tensor]:
    """Logits of each step of one row."""
    row = BatchRow(model, prefix, 4)
    return [forward(model, [Feed(row, text(n, i))]) for i, n in enumerate(ROW)]


def packed(rows: int, steps: Steps, model: LanguageModel, prefix: Prefix) -> list[torch.Tensor]:
    """Logits of each step of some continuations."""
    row, found = PackedRow(model, prefix, rows), []
    for i, step in enumerate(steps):
        texts = [text(n, i) for _, n in step]
        found.append(row.extend(texts, [number for number, _ in step], [1] * len(step)))
    return found


def compare(run: Run, model: LanguageModel, prefix: Prefix) -> dict[str, Any]:
    """The largest difference between logits; calls of the kernel; different masks in them."""
    calls: list[torch.Tensor | None] = []
    wanted = run(model, prefix)
    with like_cuda(calls):
        found = run(model, prefix)
    gaps = [float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)]
    masks = len({id(mask) for mask in calls if mask is not None})
    return {"gap": max(gaps), "calls": len(calls), "masks": masks}


KINDS: dict[str, Run] = {
    "batch": batched,
    "packed": partial(packed, 3, PACKED),
    "single": partial(packed, 1, SINGLE),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    told: dict[str, dict[str, Any]] = {}
    for family in sys.argv[1:]:
        model = tiny(family)
        for kind, prefix in prefixes(model).items():
            for name, run in KINDS.items():
                told[f"{family}, {kind}, {name}"] = compare(run, model, prefix)
    print(json.dumps(told))
