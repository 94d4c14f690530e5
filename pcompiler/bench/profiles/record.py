"""Profile a workload, stage by stage: a trace of each for TensorBoard, and what they come to."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch.profiler import profile, record_function

from pcompiler import progress, ranges
from pcompiler.bench import ROOT
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.profiles import sums, traces
from pcompiler.bench.profiles.spans import PREFIX, spans
from pcompiler.bench.profiles.sums import Sum
from pcompiler.bench.profiles.workload import Workload, support_desk
from pcompiler.compiler import Compiler
from pcompiler.device import pick
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel

FOLDER = ROOT / "profiles"
SUMMARY = "summary.json"
SCHEMA = 1


@dataclass(frozen=True)
class Stage:
    """One part of the workload.

    Attributes:
        name: what was done.
        seconds: wall time of it, slowed by the profiler.
        trace: name of its file in the profile's folder.
        operators: calls of operators that the trace holds.
    """

    name: str
    seconds: float
    trace: str
    operators: int


@dataclass(frozen=True)
class Profile:
    """What was recorded.

    Attributes:
        folder: where the traces are.
        stages: in their order.
        ranges: named ranges of all stages, those with most time of their own first.
        operators: operators of all stages, likewise.
        hardware: the machine, device and threads in words.
        device: as torch names it.
        threads: CPU threads of torch.
        commit: of the checkout; none in a wheel.
        started: ISO 8601, UTC.
        quick: whether a smaller workload was run.
        schema: of the JSON form.
    """

    folder: Path
    stages: tuple[Stage, ...]
    ranges: tuple[Sum, ...]
    operators: tuple[Sum, ...]
    hardware: str
    device: str
    threads: int
    commit: str | None
    started: str
    quick: bool
    schema: int = SCHEMA

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """The form that ``--json`` and ``summary.json`` have."""
        return {**asdict(self), "folder": self.folder.name}

    def as_table(self) -> str:
        """Ranges, then operators, each beside the wall time."""
        wall = self.seconds
        stages = ", ".join(f"{s.name} {s.seconds:.1f} s" for s in self.stages)
        return (
            f"{self.hardware}; commit {self.commit or 'unknown'}\n"
            f"profiled: {stages} (slower than without a profiler)\n\n"
            f"{sums.ranges_table(self.ranges, wall)}\n\n"
            f"{sums.operators_table(self.operators, wall)}\n\n"
            f"{self.folder}: a trace of each stage; see profiles/README.md.\n"
            f"To see them: python -m pcompiler.bench.profiles --logdir {self.folder.parent}"
        )


def make(
    device: str = "auto",
    quick: bool = False,
    threads: int | None = None,
    folder: Path | None = None,
) -> Profile:
    """Profile the example prompt with the embedded model.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        quick: only the prompt's beginning, with few probes.
        threads: CPU threads of torch meanwhile; none: as many as it has.
        folder: gets a new folder, named after time and commit; none: profiles/.

    Raises:
        DeviceError: the device is not here.
        InputError: threads below 1, or no checkout.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads {threads}: it must be 1 or more.")
    workload, chosen = support_desk(quick), pick(device)
    usual = chosen.use_threads(None)
    chosen.use_threads(threads)
    try:
        model = LanguageModel.load("smollm2", str(chosen.handle))
        return record(model, workload, folder or FOLDER, quick)
    finally:
        chosen.use_threads(usual)


def record(model: LanguageModel, workload: Workload, folder: Path, quick: bool = False) -> Profile:
    """Profile a workload on a loaded model; its store is thrown away, and what is not whole too."""
    started, of = datetime.now(timezone.utc), commit()
    place = _place(folder, started, of)
    try:
        found = _stages(model, workload, place)
        threads = model.device.use_threads(None)
        done = Profile(
            folder=place,
            stages=tuple(stage for stage, _, _ in found),
            ranges=tuple(sums.merged(rows for _, rows, _ in found)),
            operators=tuple(sums.merged(rows for _, _, rows in found)),
            hardware=f"{hardware()}; {model.device}; {threads} threads",
            device=str(model.device.handle),
            threads=threads,
            commit=of,
            started=started.isoformat(timespec="seconds"),
            quick=quick,
        )
        text = json.dumps(done.as_json(), ensure_ascii=False, indent=1)
        (place / SUMMARY).write_text(text + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(place)
        raise
    return done


def _stages(
    model: LanguageModel, workload: Workload, place: Path
) -> list[tuple[Stage, list[Sum], list[Sum]]]:
    """Each stage with its ranges and operators; its trace is in the folder."""
    found: list[tuple[Stage, list[Sum], list[Sum]]] = []
    with (
        tempfile.TemporaryDirectory() as store,
        Compiler(model, store=store, config=workload.config) as compiler,
    ):
        workload.warm_up(compiler)
        stages = workload.stages(compiler)
        with progress.bar(len(stages), "profile", "stage") as shown:
            for name, stage in stages.items():
                path = place / f"{len(found) + 1}-{name.replace(' ', '-')}{traces.SUFFIX}"
                found.append(_stage(model, name, stage, path))
                shown.update()
    return found


def _stage(
    model: LanguageModel, name: str, stage: Callable[[], object], path: Path
) -> tuple[Stage, list[Sum], list[Sum]]:
    with _profiled(model, path.with_suffix(".part")) as raw:
        start = time.perf_counter()
        with ranges.named(name):
            stage()
            model.device.synchronize()
        seconds = time.perf_counter() - start
    trace = traces.read(raw)
    raw.unlink()
    nested = spans(trace["traceEvents"])
    by_range, by_operator = sums.by_range(nested), sums.by_operator(nested)
    traces.show_as_modules(nested)
    traces.write(trace, path)
    calls = sum(row.calls for row in by_operator)
    return Stage(name, seconds, path.name, calls), by_range, by_operator


@contextmanager
def _profiled(model: LanguageModel, raw: Path) -> Iterator[Path]:
    """Inside, operators, memory, named ranges and layers are recorded; then written to a file."""
    _quiet()
    profiler = profile(activities=model.device.activities(), profile_memory=True)
    with profiler, ranges.recording(_open), layers(model):
        yield raw
    profiler.export_chrome_trace(str(raw))


def _open(name: str) -> record_function:
    return record_function(PREFIX + name)


@contextmanager
def layers(model: LanguageModel) -> Iterator[None]:
    """Inside, each block of a forward pass is a range, named after the third it belongs to."""
    blocks = model.hf.model.layers
    running: list[Any] = []

    def enter(number: int) -> Callable[..., None]:
        name = f"layers {ranges.layer_group(number, len(blocks))}"

        def before(*_: object) -> None:
            running.append(ranges.named(name))
            running[-1].__enter__()

        return before

    def leave(*_: object) -> None:
        running.pop().__exit__(None, None, None)

    hooks = [block.register_forward_pre_hook(enter(i)) for i, block in enumerate(blocks)]
    hooks += [block.register_forward_hook(leave, always_call=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _place(folder: Path, started: datetime, of: str | None) -> Path:
    place = folder / f"{started:%Y-%m-%d-%H%M%S}-{of or 'no-commit'}"
    try:
        place.mkdir(parents=True)
    except OSError as e:
        raise InputError(f"{place}: it cannot be made: {e.strerror}.") from e
    return place


def _quiet() -> None:
    """Kineto announces each profile on standard error, unless it is told before the first."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
