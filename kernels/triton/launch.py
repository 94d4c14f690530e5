"""What all launchers share: settings of the compiler, and where the interpreter is no GPU."""

from __future__ import annotations

import os

# Whether a·b + c is one operation: the compiler's default flips in triton 3.10.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import torch
import triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def widened(dtype: torch.dtype) -> bool:
    """Whether products are taken in float32: of float32, and in the interpreter.

    The interpreter keeps bfloat16 as whole numbers, and multiplies those.
    """
    return dtype == torch.float32 or INTERPRETED


def choices(*configs: triton.Config) -> list[triton.Config]:
    """Configurations to try on a GPU; the interpreter has nothing to choose by."""
    return list(configs[:1] if INTERPRETED else configs)


def check(holds: bool, told: str) -> None:
    """A launcher's condition on its inputs. Raises ValueError: what it wants."""
    if not holds:
        raise ValueError(told)


def power_of_2(count: int, least: int = 16) -> int:
    """The least power of 2 that is no less than either."""
    return max(least, triton.next_power_of_2(count))
