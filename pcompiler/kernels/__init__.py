"""Kernel sources: those of the top-level ``kernels/`` folder, as ``pcompiler.kernels.triton`` etc.

In a wheel they lie in this folder; in a checkout they lie beside the package, and are found there.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parents[1] / "kernels"

if not (_HERE / "triton").is_dir() and _CHECKOUT.is_dir():
    __path__.append(str(_CHECKOUT))


def source(name: str) -> Path:
    """The path of a source file, as in ``cpp/gram.cpp``.

    Raises:
        FileNotFoundError: there is no such source.
    """
    for folder in __path__:
        if (found := Path(folder) / name).is_file():
            return found
    raise FileNotFoundError(f"no kernel source {name} in {', '.join(__path__)}.")
