"""Whether memory stays: a prompt is compiled, attached, asked and deleted, over and over.

Prompts take turns, and each is deleted before it comes again, so nothing is found that was made
before. What a cycle leaves behind adds up cycle by cycle; what it needs meanwhile, and what caches
and buffers hold up to their limits, does not, once it has warmed up.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

from pcompiler import progress
from pcompiler.bench.held import measures
from pcompiler.bench.slope import FEWEST, Slope, slope
from pcompiler.compiler import Compiler
from pcompiler.config import StoreConfig
from pcompiler.errors import InputError

# No block cache, which takes hundreds of cycles to fill; buffers that are emptied with every gc.
SETTINGS = StoreConfig(write_buffer_mb=1, cache_mb=0)
WARM_UP = 60  # cycles before those that count: Python settles object by object on what is called
GC_EVERY = 5  # cycles: what deleted artifacts leave in the store is removed
TARGETS = ("kv", "text")
QUERY = "When do you open?"
ANSWER_TOKENS = 2
# By which a measure may grow a cycle, beyond doubt, before it is called a leak: half a KB, or so
# many small objects; a page of resident memory, which allocators take and keep as they like.
FLOORS = {"rss": 4096.0, "heap": 512.0, "device": 512.0, "python_blocks": 8.0}
UNITS = {"python_blocks": "blocks"}  # of the others: bytes
_PROMPT = (
    "You answer for a bicycle workshop. Order {number}: a {part}, {days} days. We open at nine. "
    "A repair costs 40 EUR an hour."
)
_PARTS = ("wheel", "chain", "saddle", "brake", "lamp", "pedal", "tyre", "fork", "bell")


@dataclass(frozen=True)
class Grown:
    """One measure over all cycles.

    Attributes:
        name: rss, heap, python_blocks or device; see ``held``.
        unit: bytes or blocks.
        slope: growth a cycle after warm-up.
        floor: what it has to exceed to be a leak.
        values: after each cycle, warm-up included.
    """

    name: str
    unit: str
    slope: Slope
    floor: float
    values: tuple[float, ...] = field(repr=False)

    @property
    def leaks(self) -> bool:
        """Whether it grows, beyond doubt."""
        return self.slope.exceeds(self.floor)


def cycles(
    compiler: Compiler,
    count: int,
    warm_up: int = WARM_UP,
    beside: Callable[[int], object] | None = None,
) -> list[Grown]:
    """Run cycles, and judge what each measure does.

    Args:
        compiler: with a store of its own, which this fills and empties.
        count: 8 or more, after warm-up.
        warm_up: cycles before them, which are not judged.
        beside: called with each cycle's number, for a leak to be planted.

    Raises:
        InputError: too few cycles to tell.
    """
    if count < FEWEST:
        raise InputError(f"{count} cycles are too few to tell a leak; run {FEWEST} or more.")
    seen: list[dict[str, float]] = []
    gc.collect()
    gc.freeze()  # what is there already need not be looked through after every cycle
    try:
        with progress.bar(warm_up + count, "memory stability", "cycle") as shown:
            for number in range(warm_up + count):
                cycle(compiler, number)
                if beside is not None:
                    beside(number)
                seen.append(measures(compiler.model.device))
                shown.update()
    finally:
        gc.unfreeze()
    steps = list(range(warm_up, warm_up + count))
    return [
        Grown(
            name,
            UNITS.get(name, "bytes"),
            slope(steps, [sample[name] for sample in seen[warm_up:]]),
            FLOORS[name],
            tuple(sample[name] for sample in seen),
        )
        for name in seen[0]
    ]


def cycle(compiler: Compiler, number: int) -> None:
    """Compile to each target, attach, ask, detach, delete."""
    turn = number % len(_PARTS)
    source = _PROMPT.format(number=turn, part=_PARTS[turn], days=turn + 2)
    for target in TARGETS:
        done = compiler.compile(source, target, queries=[QUERY])
        with compiler.session(done) as session:
            session.generate(QUERY, max_tokens=ANSWER_TOKENS)
        compiler.store.delete(done.id)
    if number % GC_EVERY == GC_EVERY - 1:
        compiler.store.gc()
