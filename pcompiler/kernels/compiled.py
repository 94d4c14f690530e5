"""C++ kernels: built by the machine's own compiler when they are first wanted, and kept.

A source is plain C++ with a C interface, so it builds in a second and with any version of torch.
What is built lies in the user's cache under a name that tells source, compiler, flags and
processor, and appears there by one rename: of two processes that build at once either's is right.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from pcompiler.kernels import source
from pcompiler.kernels.op import Unavailable
from pcompiler.wheel import cache_folder

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
NATIVE = ("-march=native", "-mcpu=native")  # the second where a compiler does not take the first
PARALLEL = ("-fopenmp", "-fopenmp-simd")  # threads; without them (Apple's clang) vectors alone
TIMEOUT_S = 120
log = logging.getLogger(__name__)


@cache
def library(name: str) -> ctypes.CDLL:
    """The kernels of ``cpp/NAME.cpp``; built first, if they are not there yet.

    Raises:
        Unavailable: no compiler, or it does not build them; said once on the log as well.
    """
    try:
        return ctypes.CDLL(str(_built(name)))
    except (Unavailable, OSError) as e:
        log.warning("C++ kernels are not used, plain torch runs instead: %s", e)
        raise e if isinstance(e, Unavailable) else Unavailable(str(e)) from e


def _built(name: str) -> Path:
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise Unavailable(f"no C++ compiler here ({', '.join(COMPILERS)}, or $CXX).")
    path = source(f"cpp/{name}.cpp")
    identity = (path.read_text(), compiler, *FLAGS, *NATIVE, *PARALLEL, _processor())
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    folder = cache_folder() / "kernels"
    target = folder / f"{name}-{digest}.so"
    if not target.is_file():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as room:
            new = Path(room) / target.name
            _compile(compiler, path, new)
            new.replace(target)
    return target


def _compile(compiler: str, path: Path, target: Path) -> None:
    said = ""
    for native in NATIVE:
        for parallel in PARALLEL:
            command = [compiler, *FLAGS, native, parallel, str(path), "-o", str(target)]
            try:
                done = subprocess.run(  # noqa: S603 - a list, no shell
                    command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as e:
                raise Unavailable(f"{compiler} does not run: {e}.") from e
            if done.returncode == 0:
                return
            said = said or done.stderr.strip().splitlines()[0] if done.stderr.strip() else said
    raise Unavailable(f"{compiler} does not build {path.name}: {said or 'it says nothing'}")


def _processor() -> str:
    """What ``native`` means here: a cache may be on a disk that unlike machines share."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(told)}))
