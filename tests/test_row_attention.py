"""Rows that attend by the kernel of a prefix and own tokens: right, and only where it may be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FAMILY_EXTRAS
from test_batch import CONTEXT, OTHER

from pcompiler import ops
from pcompiler.errors import KernelError
from pcompiler.kernels.op import Path as Way
from pcompiler.model import LanguageModel
from pcompiler.runtime.batch import BatchRow, Feed, forward
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import prefill

HERE = Path(__file__).parent
# Of three layers, those without a sliding window or a soft cap.
LAYERS = {
    "llama": 3, "mistral": 0, "qwen2": 2, "qwen3": 3, "gemma": 3, "gemma2": 0, "gemma3_text": 1,
}  # fmt: skip
PREFIXES = ("kv", "text", "compacted", "hybrid", "weights", "no prompt")
FEW = {"batch": 4, "packed": 3, "single": 3}  # steps with few enough tokens for the kernel
MASKED = {"batch": 2, "packed": 3, "single": 1}  # and with tokens that do not see all own ones


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    pytest.importorskip("triton")
    command = [sys.executable, str(HERE / "interpreted_rows.py"), *FAMILY_EXTRAS]
    env = os.environ | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("row", FEW)
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_logits_are_those_without_the_kernel_which_is_taken_where_it_may_be(
    told: dict[str, dict[str, Any]], family: str, prefix: str, row: str
) -> None:
    found, layers = told[f"{family}, {prefix}, {row}"], LAYERS[family]
    assert found["gap"] <= 1e-3, "other logits"
    assert found["calls"] == layers * FEW[row]
    assert found["masks"] == (MASKED[row] if layers else 0), "one for all layers of a pass"


def test_a_wrong_kernel_is_found_out_when_checked(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*inputs: Any) -> torch.Tensor:
        return ops.prefix_attention.twin(*inputs) * 1.01

    prefix = prefill(model, CONTEXT)
    right = PackedRow(model, prefix, 1).extend([OTHER], [0], [1])
    way: Way[..., torch.Tensor] = Way("other", lambda *_: True, lambda: wrong)
    monkeypatch.setattr(ops.prefix_attention, "paths", [way])
    unseen = PackedRow(model, prefix, 1).extend([OTHER], [0], [1])
    assert not torch.allclose(unseen, right, rtol=1e-3, atol=1e-3), "the path is taken"
    monkeypatch.setenv("PCOMPILER_CHECK", "1")
    with pytest.raises(KernelError, match="prefix_attention: path 'other'"):
        PackedRow(model, prefix, 1).extend([OTHER], [0], [1])
    with pytest.raises(KernelError, match="prefix_attention: path 'other'"):
        forward(model, [Feed(BatchRow(model, prefix), OTHER)])
