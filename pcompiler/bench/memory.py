"""The most memory that a process had at once, on the host and on its device."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from pcompiler.device import Device

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in which ru_maxrss counts


@dataclass(frozen=True)
class Peak:
    """The most since ``reset``.

    Attributes:
        host_bytes: resident memory; where the system cannot forget (macOS), since the process
            began.
        device_bytes: of tensors on the accelerator; none on the host.
    """

    host_bytes: int
    device_bytes: int | None


def reset(device: Device) -> None:
    """Begin to watch anew."""
    device.reset_peak()
    try:
        _CLEAR.write_text("5")
    except OSError:  # another system, or a container that does not allow it
        return


def peak(device: Device) -> Peak:
    """What it came to."""
    return Peak(_host_peak(), device.peak_bytes())


def _host_peak() -> int:
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return _RSS_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
