"""End to end without a language model: a service's prompts, a million of them, compiled and stored.

What bounds it, and what a compile is here, is said in ``bench.simulation``; the reference system
compiled its million without a model as well. ``benches/production_simulation.py`` shows more of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pcompiler.bench import reference
from pcompiler.bench.harness import Figure, Setting
from pcompiler.bench.held import rss_bytes
from pcompiler.bench.latency_summary import Summary
from pcompiler.bench.simulation import FLAT, Plan, Result, simulate

QUICK_PROMPTS = 20_000
MEMORY_TOLERANCE = 1.0
TAIL_TOLERANCE = 1.5  # a p99 is of new prompts, and of the scheduler on a busy machine
_figure = partial(Figure, "production_simulation")


def run(setting: Setting) -> list[Figure]:
    """All figures of the suite; one run of all prompts."""
    plan = Plan(QUICK_PROMPTS) if setting.quick else Plan()
    before = rss_bytes([])
    with tempfile.TemporaryDirectory() as folder:
        result = simulate(plan, Path(folder) / "store", setting.data)
    return [*_speed(result), *_kinds(result), *_memory(result, before), *_bytes(result)]


def _speed(result: Result) -> Iterator[Figure]:
    count, every = result.every.count, result.every
    new = result.redundancy.distinct / count
    yield _figure(f"{count:,} prompts", count / result.seconds, "prompts/s", "higher",
                  reference.PROMPTS_PER_S, cpu_s=result.cpu_s,
                  by=f"one process, {new:.0%} of them new")  # fmt: skip
    yield _figure("… mean", every.mean, "s", "lower", reference.COMPILE_MEAN_S)
    yield _figure("… p50", every.p50, "s", "lower")
    yield _figure("… p99", every.p99, "s", "lower", reference.COMPILE_P99_S,
                  note=f"{new:.0%} are new, so it is of these: of embedding and storing them",
                  tolerance=TAIL_TOLERANCE)  # fmt: skip
    yield _figure("… p99.9", every.p999, "s", "lower", tolerance=TAIL_TOLERANCE)
    yield _figure("… failed, or not in the store as they should be", result.failed, "prompts",
                  "lower", goal=0)  # fmt: skip


def _kinds(result: Result) -> Iterator[Figure]:
    kinds: tuple[tuple[str, Summary | None], ...] = (
        ("found in the store", result.known),
        ("compiled anew", result.new),
    )
    for name, of in kinds:
        if of is not None:
            yield _figure(f"{name}, p50", of.p50, "s", "lower")
            yield _figure("… p99", of.p99, "s", "lower", tolerance=TAIL_TOLERANCE)


def _memory(result: Result, before: int) -> Iterator[Figure]:
    # What other suites left to this process is none of a service's, but may be used again.
    most = max(sample.rss for sample in result.memory) - before
    yield _figure("memory that it takes, most", most, "bytes", "lower",
                  reference.COMPILE_RSS_BYTES, tolerance=MEMORY_TOLERANCE)  # fmt: skip
    if result.again is not None:
        yield _figure("… would grow in as many prompts again by", 100 * result.again, "%", "lower",
                      goal=100 * FLAT)  # fmt: skip


def _bytes(result: Result) -> Iterator[Figure]:
    yield _figure("stored of each byte that came in", result.stored_bytes / result.bytes_in,
                  "bytes/byte", "lower")  # fmt: skip
