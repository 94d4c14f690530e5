"""Compiles every kernel for sm_80 and sm_90; prints what came of it. Needs no GPU."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from pcompiler.kernels.triton import add_low_rank, nonnegative, prefix_attention, weighted_sums
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HALF, SINGLE = "*bf16", "*fp32"
ONES = ("u_column", "t_column", "w_row", "a_column", "bias_row")  # strides that triton sees are 1
ODD = ("n", "m", "t", "s", "groups", "steps", "bounds", "count", "rank")  # nobody divides by 16
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def build(fn: Any, generation: int, types: dict[str, str], warps: int, **fixed: Any) -> Any:
    """One kernel, with what triton would know at a launch."""
    fn = fn if hasattr(fn, "cache_key") else fn.fn
    fixed |= dict.fromkeys(set(ONES) & set(fn.arg_names), 1)
    signature = {n: "constexpr" if n in fixed else types.get(n, "i32") for n in fn.arg_names}
    sixteens = {
        (i,): [["tt.divisibility", 16]]
        for i, n in enumerate(fn.arg_names)
        if n not in fixed and n not in ODD and signature[n] != "fp32"
    }
    source = ASTSource(fn, signature, fixed, sixteens)
    made = triton.compile(
        source, target=GPUTarget("cuda", generation, 32), options={"num_warps": warps}
    )
    ptx = made.asm["ptx"]
    return {
        "kernel": fn.__name__, "generation": generation, "stack_bytes": stack(made.asm["cubin"]),
        "target": re.search(r"\.target \S+", ptx)[0],  # type: ignore[index]
        "tensor_cores": "mma.sync" in ptx or "wgmma" in ptx,
    }  # fmt: skip


def stack(cubin: bytes) -> int:
    """Bytes that a thread keeps in memory for want of registers."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([TOOL, "-res-usage", file.name], capture_output=True, text=True)
    return int(re.search(r"STACK:(\d+)", told.stdout)[1])  # type: ignore[index]


def all_kernels(generation: int) -> list[Any]:
    """Those of a bfloat16 model."""
    sums = dict.fromkeys(("uu", "ut", "w", "new_uu", "new_ut"), SINGLE) | {"u": HALF, "t": HALF}
    factors = dict.fromkeys(("a", "b", "bias"), "*fp16") | dict.fromkeys(("out", "x", "new"), HALF)
    halves = ("q", "bias", "own_keys", "own_values", "mask", "out")
    eighths = dict.fromkeys(halves, HALF) | dict.fromkeys(("keys", "values"), "*i8")
    eighths |= {"key_scales": "*fp16", "value_scales": "*fp16", "parts": SINGLE, "scale": "fp32"}
    squares = dict.fromkeys(("gram", "rhs", "start", "scratch", "out"), SINGLE)
    best = weighted_sums.CONFIGS[0]
    return [
        build(weighted_sums.weighted_sums_kernel, generation, sums, best.num_warps, WIDE=False,
              **best.kwargs),
        build(add_low_rank.add_low_rank_kernel, generation, factors, 4, WIDE=False, ROWS=16,
              COLUMNS=32, RANK=16, INNER=128),
        build(prefix_attention.prefix_attention_kernel, generation, eighths, 4, BIAS=True,
              MASK=True, PARTS=4, WIDE=False, GROUP=32, ROWS=16, KEYS=64, WIDTH=64),
        build(prefix_attention.join_kernel, generation, {"parts": SINGLE, "out": HALF}, 4,
              PARTS=4, WIDTH=64),
        build(nonnegative.nonnegative_kernel, generation, squares, 8, M=64, ROWS=64),
        build(nonnegative.nonnegative_kernel, generation, squares, 8, M=128, ROWS=64),
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps([b for generation in (80, 90) for b in all_kernels(generation)]))
