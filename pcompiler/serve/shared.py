"""Values of several processes in one folder, where prometheus-client keeps files for each of them.

What a dead process counted is moved to the files of process 0, so that there are no more files
than living processes have, however often one is started anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_THE_DEAD = 0  # no process of this number has files


def prepare(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Of the supervisor: a folder for values of all processes that inherit the environment.

    Args:
        folder: made if it is not there; what an earlier supervisor left in it is removed.
        environment: of the processes to come.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.db"):
        left.unlink()
    environment[FOLDER] = str(folder)


def collect(folder: Path) -> Iterable[Family]:
    """All processes' values as one; how things stood with those that are no more is forgotten."""
    from prometheus_client.multiprocess import MultiProcessCollector

    with FileLock(folder / "lock"):  # who reads while a file is moved would count it twice
        for pid in {_pid(path) for path in folder.glob("*.db")} - {_THE_DEAD}:
            if not _lives(pid):
                _bury(folder, pid)
        collector = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]
        return list(collector.collect())  # type: ignore[no-untyped-call]


def _bury(folder: Path, pid: int) -> None:
    from prometheus_client.mmap_dict import MmapedDict
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    for kind in ("counter", "histogram"):
        left = folder / f"{kind}_{pid}.db"
        if not left.exists():
            continue
        kept = MmapedDict(str(folder / f"{kind}_{_THE_DEAD}.db"))  # type: ignore[no-untyped-call]
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(left)):  # type: ignore[no-untyped-call]
            before, _ = kept.read_value(key)  # type: ignore[no-untyped-call]
            kept.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
        kept.close()  # type: ignore[no-untyped-call]
        left.unlink()


def _pid(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
