"""The most memory that a suite had at once, on the host and on its device."""

from __future__ import annotations

from dataclasses import dataclass

from pcompiler import memory
from pcompiler.device import Device


@dataclass(frozen=True)
class Peak:
    """The most since ``forget``.

    Attributes:
        host_bytes: resident memory; where the system cannot forget (macOS), since the process
            began.
        device_bytes: of tensors on the accelerator; none on the host.
    """

    host_bytes: int
    device_bytes: int | None


def forget(device: Device) -> None:
    """Begin to watch anew."""
    device.reset_peak()
    memory.forget_peak()


def peak(device: Device) -> Peak:
    """What it came to."""
    return Peak(memory.peak_bytes(), device.peak_bytes())
