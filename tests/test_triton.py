"""Triton kernels without a GPU: right in the interpreter, compiled for two generations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcompiler import ops
from pcompiler.bench.kernel_inputs import Case, cases

pytest.importorskip("triton")
HERE = Path(__file__).parent
EVERY = list(cases(large=False))


def _run(script: str, **environment: str) -> str:
    """Output of a script beside this one, in a process that reads triton's settings anew."""
    env = os.environ | {"PYTHONPATH": str(HERE.parent)} | environment
    done = subprocess.run(
        [sys.executable, str(HERE / script)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    found: dict[str, float] = json.loads(_run("interpreted.py", TRITON_INTERPRET="1"))
    return found


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_a_kernel_does_what_plain_torch_does(case: Case, errors: dict[str, float]) -> None:
    assert errors[case.name] <= max(case.op.tolerance, torch.finfo(case.dtype).eps)


def test_kernels_compile_for_two_generations_with_tensor_cores_and_without_spills() -> None:
    built = json.loads(_run("compiled.py"))
    assert {b["generation"] for b in built} == {80, 90}
    for b in built:
        assert f".target sm_{b['generation']}" in b["target"], b
        assert b["stack_bytes"] <= 16, f"{b} keeps numbers in memory that registers should hold"
        if b["kernel"] not in ("nonnegative_kernel", "join_kernel"):
            assert b["tensor_cores"], b


def test_tensors_on_the_host_take_the_twin_and_say_why() -> None:
    case = next(c for c in EVERY if c.op is ops.nonnegative)
    assert "triton: not for these inputs" in case.op.chosen(*case.inputs(torch.device("cpu")))
