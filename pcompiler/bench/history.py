"""Kept runs in the order of their commits; what one machine can be compared with itself on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from pcompiler.bench import ROOT, archive
from pcompiler.bench.harness import Figure
from pcompiler.bench.runs import Run, labels
from pcompiler.errors import InputError, MismatchError

WHY_CHOSEN = re.compile(r" \([^()]*\)")  # "(as asked)"
COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Kept:
    """A run in a file.

    Attributes:
        name: the file's, without its ending.
        run: what it holds.
        when: seconds since 1970, UTC: of its commit, or of its start where git knows none.
    """

    name: str
    run: Run
    when: float


@dataclass(frozen=True)
class Point:
    """One figure of one kept run."""

    kept: Kept
    figure: Figure


@dataclass(frozen=True)
class History:
    """Kept runs by commit date, then version, then start.

    Attributes:
        kept: the runs.
        refused: files that are no runs, with the reason.
    """

    kept: tuple[Kept, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def like(self, run: Run) -> tuple[Kept, ...]:
        """Runs that may be joined with this one by a line: of the same setup."""
        return tuple(kept for kept in self.kept if setup(kept.run) == setup(run))


def read(folder: Path = archive.FOLDER) -> History:
    """All runs of a folder; none where there is no such folder."""
    found = [(path, _read(path)) for path in sorted(folder.glob("*.json"))]
    runs = ((path.stem, run) for path, run in found if isinstance(run, Run))
    refused = tuple((path.name, why) for path, why in found if isinstance(why, str))
    return History(ordered(runs), refused)


def _read(path: Path) -> Run | str:
    """The run, or why the file is none."""
    try:
        return archive.read(path)
    except (InputError, MismatchError) as e:
        return str(e)


def ordered(runs: Iterable[tuple[str, Run]]) -> tuple[Kept, ...]:
    """Runs with their names, by commit date."""
    found = [Kept(name, run, _when(run)) for name, run in runs]
    return tuple(sorted(found, key=lambda k: (k.when, version(k.run), k.run.started, k.name)))


class Setup(NamedTuple):
    """What two runs need to share; the machine's words name the number type as well."""

    machine: str
    device: str
    threads: int
    quick: bool


def setup(run: Run) -> Setup:
    """Of a run."""
    return Setup(machine(run), run.device, run.threads, run.quick)


def machine(run: Run) -> str:
    """Its hardware, without why the device was chosen: the same device all the same."""
    return plain(run.hardware)


def plain(hardware: str) -> str:
    """The same of any study's hardware."""
    processor, _, rest = hardware.partition("; ")
    return f"{processor}; {WHY_CHOSEN.sub('', rest)}" if rest else processor


def version(run: Run) -> tuple[int, ...]:
    """The release as numbers, so that 0.10 follows 0.9."""
    return tuple(int(part) for part in re.findall(r"\d+", run.version))


def series(kept: Sequence[Kept]) -> dict[str, tuple[Point, ...]]:
    """By a figure's label, its points in the order of the runs.

    Raises:
        InputError: the runs are not of one setup; nothing joins those.
    """
    if len({setup(one.run) for one in kept}) > 1:
        raise InputError("runs of different machines, devices or threads are no series.")
    found: dict[str, list[Point]] = {}
    for one in kept:
        for label, figure in labels(one.run.figures).items():
            found.setdefault(label, []).append(Point(one, figure))
    return {label: tuple(points) for label, points in found.items()}


def _when(run: Run) -> float:
    started = datetime.fromisoformat(run.started)
    if started.tzinfo is None:
        started = started.replace(tzinfo=timezone.utc)
    return _committed(run.commit) or started.timestamp()


def _committed(commit: str | None) -> float | None:
    name = (commit or "").removesuffix("-dirty")
    if not COMMIT.fullmatch(name) or not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "show", "-s", "--format=%ct", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return float(done.stdout)
