"""Every Triton kernel on a CUDA machine: against plain torch first, then timed beside it.

python -m benches.gpu_check --json gpu.json    # about a minute; exit code 1: a kernel is wrong
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from pcompiler.bench.kernel_inputs import Case, cases
from pcompiler.device import pick
from pcompiler.kernels.op import relative_error

COPIED = 2**29  # bytes, to measure what a copy reads and writes in a second


def main() -> int:
    """Check, time, print."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--json", type=Path, help="write all figures there")
    args = p.parse_args()
    device = pick("cuda").handle
    start = time.perf_counter()
    with torch.no_grad():
        checks = [_checked(c, device) for large in (False, True) for c in cases(large)]
        rate = _copy_rate(device)
        timed = [_timed(c, device, rate) for c in cases(large=True)]
    wrong = [c for c in checks if c["error"] is None or not c["error"] <= c["allowed"]]
    for c in wrong:
        print(f"WRONG {c['name']}: {c['told']}")
    print(f"{len(checks) - len(wrong)} of {len(checks)} right; a copy moves {rate / 1e9:.0f} GB/s")
    for t in timed:
        print(
            f"{t['name']:<75} torch {t['torch_ms']:8.4f} ms, triton {t['triton_ms']:8.4f} ms, "
            f"{t['faster']:5.2f} ×, {t['gb_per_s']:7.1f} GB/s ({t['of_copy']:.1%} of a copy)"
        )
    told = {
        "device": torch.cuda.get_device_name(device), "torch": torch.__version__,
        "triton": import_module("triton").__version__, "copy_gb_per_s": rate / 1e9,
        "seconds": time.perf_counter() - start, "checks": checks, "timed": timed,
    }  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(told, indent=1))
    return 1 if wrong else 0


def _kernel(case: Case) -> Any:  # noqa: ANN401 - of any signature
    (path,) = (path for path in case.op.paths if path.name == "triton")
    kernel = path.function()
    if kernel is None:
        sys.exit(f"{case.op.name}: {path.missing}")
    return kernel


def _checked(case: Case, device: torch.device) -> dict[str, Any]:
    """The largest error over two draws; none where the kernel raised."""
    error, told, allowed = 0.0, "", max(case.op.tolerance, torch.finfo(case.dtype).eps)
    for seed in (1, 2):
        inputs = case.inputs(device, seed)
        try:
            found, wanted = _kernel(case)(*inputs), case.op.twin(*inputs)
            pairs = (
                zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]
            )
            error = max(error, *(relative_error(a, b) for a, b in pairs))
            told = f"off by {error:.1e}, {allowed:.0e} is allowed"
        except Exception as e:
            return {"name": case.name, "error": None, "allowed": allowed, "told": repr(e)[:500]}
    return {"name": case.name, "error": error, "allowed": allowed, "told": told}


def _copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    source = torch.empty(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / (_median_ms(lambda: target.copy_(source)) / 1e3)


def _timed(case: Case, device: torch.device, rate: float) -> dict[str, Any]:
    inputs, kernel = case.inputs(device), _kernel(case)
    try:
        plain, fast = _median_ms(lambda: case.op.twin(*inputs)), _median_ms(lambda: kernel(*inputs))
    except Exception:
        plain = fast = float("nan")
    moved = case.moved / (fast / 1e3)
    return {
        "name": case.name, "torch_ms": plain, "triton_ms": fast, "faster": plain / fast,
        "gb_per_s": moved / 1e9, "of_copy": moved / rate,
        "gflop_per_s": case.operations / (fast / 1e3) / 1e9,
    }  # fmt: skip


def _median_ms(run: Any) -> float:  # noqa: ANN401 - anything that can be called
    """Between events of the device, caches cleared before each; launches are in it."""
    found: float = import_module("triton.testing").do_bench(
        run, warmup=20, rep=100, return_mode="median"
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
