"""The ``zstd`` command's own benchmark mode: plain zstd in C, without Python around it."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# level, bytes, (factor), compression, decompression; newer versions put an x before the factor
_LINE = re.compile(r"(\d+) \(x?[\d.]+\),?\s+([\d.]+) MB/s,?\s+([\d.]+) MB/s")


@dataclass(frozen=True)
class CommandSpeed:
    """What the command says of itself, of calls that fill a second, and what it had of the core.

    Attributes:
        version: of the command, which need not be the library's.
        kept_bytes: compressed.
        compress_mb_per_s: 10^6 bytes a second of wall time.
        decompress_mb_per_s: the same.
        cpu_share: CPU time over wall time of its process; below 1, others had the core.
    """

    version: str
    kept_bytes: int
    compress_mb_per_s: float
    decompress_mb_per_s: float
    cpu_share: float

    @property
    def compress_mb_per_cpu_s(self) -> float:
        """10^6 bytes a second of CPU time, about: its two seconds may have had unlike shares."""
        return self.compress_mb_per_s / self.cpu_share


def measure(files: Sequence[bytes], level: int) -> CommandSpeed | None:
    """Benchmark these files, each compressed on its own, on one thread; two to three seconds.

    Args:
        files: contents.
        level: 1 to 19.

    Returns:
        None where the command is not installed, or does not answer as expected.
    """
    binary = shutil.which("zstd")
    if binary is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / str(i) for i in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        wall, cpu = time.perf_counter(), _children_cpu_s()
        said = _output([binary, "-q", f"-b{level}", "-i1", "-T1", *map(str, paths)])
        share = (_children_cpu_s() - cpu) / (time.perf_counter() - wall)
    found = _LINE.search(said)
    if found is None or share <= 0:
        return None
    kept, compress, decompress = found.groups()
    return CommandSpeed(_version(binary), int(kept), float(compress), float(decompress), share)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _version(binary: str) -> str:
    found = re.search(r"v?(\d+\.\d+\.\d+)", _output([binary, "--version"]))
    return found.group(1) if found else "unknown"


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout + done.stderr
