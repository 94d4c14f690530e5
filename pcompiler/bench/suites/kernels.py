"""Each hot operation of ``ops.py``: its faster path checked against plain torch, then both timed.

What bounds them: bytes at the rate of a copy, operations at that of a float32 matrix product, both
measured here. Inputs stay where the last call left them, in a cache that holds them or not: small
ones may be faster than a copy. ``python -m benches.gpu_check`` clears caches, and tries odd shapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch.utils.benchmark import Measurement, Timer

from pcompiler import progress
from pcompiler.bench.harness import Figure, Setting
from pcompiler.bench.kernel_inputs import Case, cases
from pcompiler.device import Device

COPIED, COPIED_HOST = 2**29, 2**26  # bytes; more than a cache holds
SIDE = 2048  # of the matrix product
MOST_ON_HOST = 10**10  # operations of a call
RUN_S, QUICK_RUN_S = 0.3, 0.1  # that each is timed for, at least
_figure = partial(Figure, "kernels")


@torch.no_grad()
def run(setting: Setting) -> list[Figure]:
    """All figures of the suite. Raises KernelError: a path is wrong."""
    bench = _Bench(setting)
    figures = bench.machine()
    chosen = list(_chosen(setting))
    with progress.bar(len(chosen), "kernels", "operation") as shown:
        for case in chosen:
            figures += bench.case(case)
            shown.update()
    return figures


class _Bench:
    def __init__(self, setting: Setting) -> None:
        self.device = setting.device
        self.least_s = QUICK_RUN_S if setting.quick else RUN_S
        self.copy_rate = self.product_rate = 1.0

    def machine(self) -> list[Figure]:
        """Rates of a copy, read and written, and of a matrix product."""
        size = COPIED_HOST if self.device.is_host else COPIED
        source = torch.zeros(size // 4, device=self.device.handle)
        target = torch.zeros_like(source)
        a = torch.rand(SIDE, SIDE, device=self.device.handle)
        self.copy_rate = 2 * size / self._time(lambda: target.copy_(source)).median
        self.product_rate = 2 * SIDE**3 / self._time(lambda: a @ a).median
        return [
            _figure("copy", self.copy_rate / 1e9, "GB/s", "higher"),
            _figure("float32 matrix product", self.product_rate / 1e9, "GFLOP/s", "higher"),
        ]

    def case(self, case: Case) -> list[Figure]:
        """One operation's time, beside plain torch where that is not how it is done."""
        self._check(case)
        inputs = _inputs(case, self.device, seed=0)
        path = case.op.path(*inputs)
        plain = done = self._time(lambda: case.op.twin(*inputs))
        if path is not None:
            done = self._time(lambda: case.op(*inputs))
        bytes_s, operations_s = case.moved / done.median, case.operations / done.median
        share, of = max(
            (bytes_s / self.copy_rate, "copy"),
            (operations_s / self.product_rate, "float32 matrix product"),
        )
        return [
            _figure(
                case.name, done.median, "s", "lower", spread=done.iqr, samples=tuple(done.times),
                baseline=None if path is None else plain.median, by=case.op.chosen(*inputs),
            ),
            _figure(f"{case.name}: share of a {of}'s rate", 100 * share, "%", "higher"),
        ]  # fmt: skip

    def _check(self, case: Case) -> None:
        inputs = _inputs(case, self.device, seed=1)
        path = case.op.path(*inputs)
        if path is not None:
            case.op.check(path.name, case.op(*inputs), case.op.twin(*inputs))

    def _time(self, function: Callable[[], object]) -> Measurement:
        def now() -> float:
            self.device.synchronize()
            return time.perf_counter()

        function()  # compiled and tuned
        threads = torch.get_num_threads()  # else it would be one
        timer = Timer("f()", globals={"f": function}, timer=now, num_threads=threads)
        return timer.blocked_autorange(min_run_time=self.least_s)


def _chosen(setting: Setting) -> Iterator[Case]:
    """Those that this device does in a moment; with --quick the first of each operation."""
    some = cases(large=True)
    if setting.device.is_host:
        some = (case for case in some if case.operations <= MOST_ON_HOST)
    for _, group in groupby(some, lambda case: case.op.name):
        every = list(group)
        yield from every[:1] if setting.quick else every


def _inputs(case: Case, device: Device, seed: int) -> tuple[Any, ...]:
    """Drawn on the host, so that they are the same everywhere."""
    drawn = case.inputs(torch.device("cpu"), seed)
    return tuple(x.to(device.handle) if isinstance(x, torch.Tensor) else x for x in drawn)
