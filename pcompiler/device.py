"""Picks device and dtype once, and keeps the reason. Nobody else asks which device it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, supported_activities

from pcompiler.errors import DeviceError
from pcompiler.ranges import named

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NATIVE_BF16 = ("avx512_bf16", "amx_bf16")  # on x86; a product takes half of float32's time
# The kernel behind each factorisation that we use. MPS has none for eigh up to torch 2.13, and the
# others since one release or another (each torch says which in its own
# torchgen/packaged/ATen/native/native_functions.yaml), so the dispatcher is asked. Without one
# torch raises, or with PYTORCH_ENABLE_MPS_FALLBACK moves tensors without saying so.
KERNELS: dict[Callable[..., Any], str] = {
    torch.cholesky_solve: "aten::_cholesky_solve_helper",
    torch.linalg.cholesky: "aten::linalg_cholesky_ex",
    torch.linalg.cholesky_ex: "aten::linalg_cholesky_ex",
    torch.linalg.eigh: "aten::_linalg_eigh",
    torch.linalg.eigvalsh: "aten::_linalg_eigh",
    torch.linalg.qr: "aten::linalg_qr",
}


@dataclass(frozen=True)
class Device:
    """Where tensors live and in what precision the model runs.

    Attributes:
        handle: the torch device.
        dtype: the model's dtype there.
        reason: why these two, for people.
    """

    handle: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def is_host(self) -> bool:
        """Whether tensors are in main memory, where many small operations cost no launches."""
        return self.handle.type == "cpu"

    @property
    def multiplies_bf16(self) -> bool:
        """Whether this is a processor with instructions for products of bfloat16.

        Asked of the processor and not timed, so that the same prompt compiles alike each time.
        """
        if not self.is_host:
            return _cuda_has_bf16(self.handle)
        told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older torch
        return any(told.get(name) for name in NATIVE_BF16)

    def synchronize(self) -> None:
        """Wait until all queued work on the device is done; free on the CPU."""
        if self.handle.type == "cuda":
            torch.cuda.synchronize(self.handle)
        elif self.handle.type == "mps":
            torch.mps.synchronize()

    def allocated_bytes(self) -> int | None:
        """Bytes of tensors in use on the device; None on the host, which keeps no books."""
        if self.handle.type == "cuda":
            return torch.cuda.memory_allocated(self.handle)
        if self.handle.type == "mps":
            return torch.mps.current_allocated_memory()
        return None

    def reset_peak(self) -> None:
        """Forget the most memory that was in use so far."""
        if self.handle.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.handle)

    def peak_bytes(self) -> int | None:
        """The most bytes of tensors since then; MPS keeps no peak: those now. None on the host."""
        if self.handle.type == "cuda":
            return torch.cuda.max_memory_allocated(self.handle)
        if self.handle.type == "mps":
            return torch.mps.current_allocated_memory()
        return None

    def activities(self) -> list[ProfilerActivity]:
        """What torch's profiler can see here: operators, and kernels where the device has them.

        torch has no activity for MPS: its traces show operators as the CPU sends them off.
        """
        wanted = ("CPU", self.handle.type.upper())
        found = (a for a in supported_activities() if a.name in wanted)  # type: ignore[no-untyped-call]
        return sorted(found, key=lambda activity: activity.name)

    def use_threads(self, count: int | None) -> int:
        """Pin the number of CPU threads; returns what is in force."""
        if count is not None:
            torch.set_num_threads(count)
        return torch.get_num_threads()

    def __str__(self) -> str:
        return f"{self.handle}, {dtype_name(self.dtype)} ({self.reason})"


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` → ``float32``."""
    return str(dtype).removeprefix("torch.")


def on_host(tensor: torch.Tensor) -> bool:
    """Whether a tensor is in main memory, where C++ can reach it."""
    return tensor.device.type == "cpu"


def on_cuda(tensor: torch.Tensor) -> bool:
    """Whether a CUDA kernel can read it."""
    return tensor.device.type == "cuda"


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """In float64, where the tensor is, or on the CPU beside a device that has none (MPS).

    There it is a range of its own in a profile: "on the CPU: float64".
    """
    if tensor.device.type != "mps":
        return tensor.double()
    with named("on the CPU: float64"):
        return tensor.cpu().double()  # in this order: MPS refuses to copy into a dtype it lacks


def at_home(factorise: Callable[..., Any], *tensors: torch.Tensor) -> Any:  # noqa: ANN401
    """One of ``KERNELS`` where the tensors are, or on the CPU beside a device that lacks it (MPS).

    Results are on the tensors' device. What is moved is a range of its own in a profile:
    "on the CPU: linalg_eigh".
    """
    device = tensors[0].device
    if device.type != "mps" or has_kernel(KERNELS[factorise], "MPS"):
        return factorise(*tensors)
    with named(f"on the CPU: {factorise.__name__}"):
        found = factorise(*(t.cpu() for t in tensors))
        if isinstance(found, torch.Tensor):
            return found.to(device)
        return tuple(part.to(device) for part in found)


def has_kernel(operator: str, backend: str) -> bool:
    """Whether this build of torch has an operator's kernel for a backend."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator, backend)


def available() -> list[str]:
    """The devices that this machine has, best first."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def pick(name: str = "auto", dtype: str = "auto") -> Device:
    """Choose a device and a dtype.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        DeviceError: the device is not here, or a name is not known; lists those that are.
    """
    here = available()
    asked = here[0] if name == "auto" else "cuda:0" if name == "cuda" else name
    if asked not in here:
        raise DeviceError(
            f"device {name!r} is not available here; this machine has: {', '.join(here)}. "
            "Choose one of these, or 'auto'."
        )
    device = torch.device(asked)
    if device.type == "cuda":
        # cuDNN's attention plans anew for each shape, 6 ms on an H200, and ours are all different:
        # two thirds of a compile's time went there. Flash attention needs no plan.
        torch.backends.cuda.enable_cudnn_sdp(False)
    why = f"best of {', '.join(here)}" if name == "auto" else "as asked"
    if dtype == "auto":
        chosen, precision = _natural_dtype(device)
    elif dtype in DTYPES:
        chosen, precision = DTYPES[dtype], "dtype as asked"
    else:
        raise DeviceError(f"dtype {dtype!r} is not known; choose auto or {', '.join(DTYPES)}.")
    return Device(device, chosen, f"{why}; {precision}")


def _natural_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    """bf16 only where the hardware multiplies it natively."""
    if _cuda_has_bf16(device):
        return torch.bfloat16, "bfloat16 is native here"
    return torch.float32, "float32, the precision that every device does well"


def _cuda_has_bf16(device: torch.device) -> bool:
    """Ampere and later; MPS is not known to gain by it."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
