"""How much memory this process has, and how much it may have with those beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_GROUPS = Path("/sys/fs/cgroup")


def used_bytes() -> int:
    """What only this process has in memory; on Linux pages of files do not count.

    Weights that several processes map are theirs once, and the system takes such pages back before
    memory runs out. (A shared page's share, smaps_rollup, takes 28 ms for each gigabyte.) Elsewhere
    the most that was resident so far.
    """
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return peak_bytes()
    own = [line.split()[1] for line in lines if line.startswith(("RssAnon:", "RssShmem:"))]
    return 1024 * sum(map(int, own))


def limit_bytes() -> int:
    """What the machine has, or what its control group may have if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, *_group_limits())


def forget_peak() -> None:
    """Have ``peak_bytes`` begin anew, where the system can: on Linux."""
    with suppress(OSError):  # another system, or a container that does not allow it
        _CLEAR.write_text("5")


def peak_bytes() -> int:
    """The most resident bytes since ``forget_peak``, or since the process began."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _group_limits() -> Iterator[int]:
    """Of this process's control group and those around it; version 2, then version 1."""
    yield sys.maxsize
    for path in (*_group_files(), _GROUPS / "memory" / "memory.limit_in_bytes"):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max": none
            yield int(text)


def _group_files() -> Iterator[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    inside = Path(own.lstrip("/"))
    for folder in (inside, *inside.parents):
        yield _GROUPS / folder / "memory.max"
