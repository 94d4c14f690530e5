"""Named ranges: what is recorded nests as the calls do; nothing is done while nobody records."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pcompiler import ranges


class Recorder:
    """Keeps what was entered and left, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        self.seen.append(f"+{name}")
        try:
            yield
        finally:
            self.seen.append(f"-{name}")


@ranges.ranged("outer")
def doubled(x: int) -> int:
    """Twice as much."""
    with ranges.named("inner"):
        return 2 * x


def test_ranges_nest_as_the_calls_do_and_only_while_they_are_recorded() -> None:
    recorder = Recorder()
    assert doubled(1) == 2
    with ranges.recording(recorder.open):
        assert doubled(2) == 4
    assert doubled(3) == 6
    assert recorder.seen == ["+outer", "+inner", "-inner", "-outer"]
    assert doubled.__doc__ == "Twice as much."


def test_a_range_ends_and_recording_stops_when_what_is_within_fails() -> None:
    recorder = Recorder()
    with (
        pytest.raises(ZeroDivisionError),
        ranges.recording(recorder.open),
        ranges.named("failing"),
    ):
        _ = 1 / 0
    with ranges.named("afterwards"):
        pass
    assert recorder.seen == ["+failing", "-failing"]


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 30, 31])
def test_every_layer_is_in_the_group_that_its_name_says(layers: int) -> None:
    names = [ranges.layer_group(layer, layers) for layer in range(layers)]
    for layer, name in enumerate(names):
        first, _, last = name.partition("-")
        assert int(first) <= layer <= int(last or first)
    assert len(set(names)) == min(layers, ranges.GROUPS)


def test_ranges_import_no_torch() -> None:
    code = "import sys, pcompiler.ranges; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_range_that_nobody_records_costs_under_two_microseconds() -> None:
    """0.3 µs here; the bound leaves room for a busy machine, and none for work of its own."""
    from timeit import repeat

    def once() -> None:
        with ranges.named("idle"):
            pass

    assert min(repeat(once, number=20_000, repeat=5)) / 20_000 < 2e-6
