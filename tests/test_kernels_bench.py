"""The suite of hot operations: checks a faster path before it times it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pcompiler import ops
from pcompiler.bench import run
from pcompiler.bench.runs import Run
from pcompiler.errors import KernelError
from pcompiler.kernels.op import Path


def _with(path: Callable[..., torch.Tensor], patch: pytest.MonkeyPatch) -> Run:
    patch.setattr(ops.sum_rows, "paths", [Path("other", lambda *_: True, lambda: path)])
    return run("kernels", device="cpu", quick=True, rounds=1, threads=1)


def _one_by_one(table: torch.Tensor, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    pieces = torch.tensor_split(table[ids], offsets[1:-1].cpu())
    return torch.stack([piece.sum(0) for piece in pieces])


def test_a_path_is_timed_beside_plain_torch_and_the_others_say_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = {f.name: f for f in _with(_one_by_one, monkeypatch).figures}
    assert figures["copy"].value > 0
    timed = [f for f in figures.values() if f.unit == "s"]
    assert {f.name.split(",")[0] for f in timed} == {
        "weighted_sums", "add_low_rank", "attend", "sum_rows", "nonnegative",
    }  # fmt: skip
    for figure in timed:
        if figure.name.startswith("sum_rows"):
            assert figure.by == "other"
            assert figure.baseline is not None
            assert figure.value > figure.baseline, "a hundred sums take longer than one call"
        else:
            assert figure.baseline is None
            assert "not for these inputs" in str(figure.by)


def test_a_wrong_path_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="sum_rows: path 'other'"):
        _with(lambda *inputs: _one_by_one(*inputs) * 1.001, monkeypatch)
