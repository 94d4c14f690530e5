"""Several prompts at once: each compiled as ever, the model run for all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from pcompiler import targets
from pcompiler.pipeline import Compiled, Gates, Work, compile_prompt
from pcompiler.runtime import together
from pcompiler.store.db import Store

Outcome: TypeAlias = "Compiled | Exception"
ROOM = 8  # groups' worth of prompts that are held, where nearly all are in the store already


def compile_group(
    works: Sequence[Work], target_name: str, store: Store, gates: Gates
) -> list[Outcome]:
    """Compile prompts for one model side by side; see ``compile_prompt``.

    What is stored is what each would compile to alone, but for rounding; the same works in the
    same order give the same bytes. ``timing`` in a header tells wall seconds of the whole group,
    which it counts as ``group``.

    Returns:
        For each work what ``compile_prompt`` returns, or the error that it raises.
    """
    assert len({id(work.model) for work in works}) <= 1, "one model runs for all"
    addresses = [_address(work, target_name) for work in works]
    compiles: list[Callable[[], Compiled]] = [
        partial(compile_prompt, work, target_name, store, gates) for work in works
    ]
    first = {address: i for i, address in reversed([*enumerate(addresses)])}
    found = together.run([compiles[i] for i in first.values()])
    outcomes = dict(zip(first, found, strict=True))
    return [
        outcomes[address] if first[address] == i else _again(outcomes[address], compiles[i])
        for i, address in enumerate(addresses)
    ]


def compile_all(
    works: Iterable[Work], target_name: str, store: Store, gates: Gates, group: int
) -> Iterator[Outcome]:
    """``compile_group`` over any number of works, in order, so many new ones at a time."""
    held: list[Work] = []
    new = 0
    for work in works:
        held.append(work)
        new += not _known(work, target_name, store)
        if new == group or len(held) == ROOM * group:
            yield from compile_group(held, target_name, store, gates)
            held, new = [], 0
    yield from compile_group(held, target_name, store, gates)


def _known(work: Work, target_name: str, store: Store) -> bool:
    address = _address(work, target_name)
    return isinstance(address, str) and store.find(address) is not None


def _address(work: Work, target_name: str) -> str | int:
    """What it compiles to; a number of its own for what cannot be compiled."""
    try:
        return work.address(targets.get(target_name))
    except Exception:
        return id(work)  # told of by compile_prompt


def _again(outcome: Outcome, compile_it: Callable[[], Compiled]) -> Outcome:
    """Of a prompt that was in the group twice."""
    if isinstance(outcome, Exception):
        return outcome
    try:
        return compile_it()
    except Exception as e:
        return e
