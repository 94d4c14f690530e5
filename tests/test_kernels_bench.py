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
    patch.setattr(ops.prefix_attention, "paths", [Path("other", lambda *_: True, lambda: path)])
    return run("kernels", device="cpu", quick=True, rounds=1, threads=1)


def _one_by_one(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    own_keys: torch.Tensor,
    own_values: torch.Tensor,
    scale: float,
    bias: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Head by head."""
    some = []
    for i, head in enumerate(q.split(1)):
        at = slice(i * len(keys) // len(q), i * len(keys) // len(q) + 1)
        four = keys[at], values[at], own_keys[at], own_values[at]
        some.append(ops.prefix_attention.twin(head, *four, scale, bias[at], mask))
    return torch.cat(some)


def test_a_path_is_timed_beside_plain_torch_and_the_others_say_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = {f.name: f for f in _with(_one_by_one, monkeypatch).figures}
    assert figures["copy"].value > 0
    timed = [f for f in figures.values() if f.unit == "s"]
    assert {f.name.split(",")[0] for f in timed} == {
        "weighted_sums", "add_low_rank", "prefix_attention", "nonnegative",
    }  # fmt: skip
    for figure in timed:
        if figure.name.startswith("prefix_attention"):
            assert figure.by == "other"
            assert figure.baseline is not None
            assert figure.value > figure.baseline, "nine heads take longer one by one"
        else:
            assert figure.baseline is None
            assert "not for these inputs" in str(figure.by)


def test_a_wrong_path_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="prefix_attention: path 'other'"):
        _with(lambda *inputs: _one_by_one(*inputs) * 1.05, monkeypatch)
