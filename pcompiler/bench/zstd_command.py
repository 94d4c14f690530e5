"""The ``zstd`` command's own benchmark mode: plain zstd in C, without Python around it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# level, bytes, (factor), compression, decompression; newer versions put an x before the factor
_LINE = re.compile(r"(\d+) \(x?[\d.]+\),?\s+([\d.]+) MB/s,?\s+([\d.]+) MB/s")


@dataclass(frozen=True)
class CommandSpeed:
    """What the command says of itself; it takes the fastest of many calls in a second.

    Attributes:
        version: of the command, which need not be the library's.
        kept_bytes: compressed.
        compress_mb_per_s: 10^6 bytes a second of wall time.
        decompress_mb_per_s: the same.
    """

    version: str
    kept_bytes: int
    compress_mb_per_s: float
    decompress_mb_per_s: float


def measure(
    files: Sequence[bytes],
    level: int,
    *,
    piece_bytes: int = 0,
    threads: int = 1,
    dictionary: bytes | None = None,
) -> CommandSpeed | None:
    """Benchmark these files, each on its own; two to three seconds.

    Args:
        files: contents.
        level: 1 to 19.
        piece_bytes: compress pieces of this size each on its own; 0: whole files.
        threads: that work on one file.
        dictionary: in zstd's own form.

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
        command = [binary, "-q", f"-b{level}", "-i1", f"-T{threads}"]
        if piece_bytes:
            command.append(f"-B{piece_bytes}")
        if dictionary is not None:
            learnt = Path(folder) / "dictionary"
            learnt.write_bytes(dictionary)
            command += ["-D", str(learnt)]
        said = _output([*command, *map(str, paths)])
    found = _LINE.search(said)
    if found is None:
        return None
    kept, compress, decompress = found.groups()
    return CommandSpeed(_version(binary), int(kept), float(compress), float(decompress))


def _version(binary: str) -> str:
    found = re.search(r"v?(\d+\.\d+\.\d+)", _output([binary, "--version"]))
    return found.group(1) if found else "unknown"


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout + done.stderr
