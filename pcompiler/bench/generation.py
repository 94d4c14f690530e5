"""Tokens a second after an artifact: with its patch and without, with a cache in 8 bit and in 16.

What bounds a token of one answer: reading the weights (4·P bytes in float32: 538 MB of SmolLM2)
and the cache. A patch of rank r adds 2·r·(d + d_ff) operations and four small products a layer;
a cache in 8 bit is widened once, when it is attached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median

from pcompiler.bench.harness import Figure, Samples, Setting, spread
from pcompiler.model import LanguageModel
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import Prefix
from pcompiler.targets.encoding import from_tensors, to_tensors

TOKENS = 32
PATCH_GOAL, INT8_GOAL = 0.95, 0.90  # of the speed without a patch, and with 16 bit


def figures(
    setting: Setting, model: LanguageModel, exact: Prefix, hybrid: Prefix, query: Sequence[int]
) -> list[Figure]:
    """Each way in turns with the one that it is compared with.

    Args:
        setting: the device, how often.
        model: the language model.
        exact: a prompt's own cache.
        hybrid: a compacted cache with a patch.
        query: tokens of a query.
    """
    bare = replace(hybrid, patch=None)
    wide, narrow = (from_tensors(model, to_tensors(exact, bits), frozenset()) for bits in (16, 8))
    ways = {"without its patch": bare, "with it": hybrid, "16 bit": wide, "8 bit": narrow}
    times = {name: Samples() for name in ways}
    for number in setting.repeat.until_steady(*(samples.wall for samples in times.values())):
        for name in list(ways) if number % 2 else reversed(ways):
            row = PackedRow(model, ways[name], 1, len(query) + TOKENS)
            first = int(row.extend([query], [0], [1]).argmax())
            times[name].time(setting.device, partial(_go_on, row, first))
    return [
        *_pair("a hybrid", times, "without its patch", "with it", PATCH_GOAL),
        *_pair("an exact cache", times, "16 bit", "8 bit", INT8_GOAL),
    ]


def _go_on(row: PackedRow, token: int) -> None:
    """So many greedy tokens of one answer after its first, whatever they are."""
    for _ in range(TOKENS):
        token = int(row.extend([[token]], [0], [1]).argmax())


def _pair(
    what: str, times: Mapping[str, Samples], plain: str, other: str, goal: float
) -> list[Figure]:
    rates = {name: [TOKENS / s for s in times[name].wall] for name in (plain, other)}
    each = zip(times[plain].cpu, times[other].cpu, strict=True)
    shares = [100 * before / after for before, after in each]
    made = partial(Figure, "compilation", better="higher")
    return [
        *(
            made(
                f"generation after {what}, {name}", median(rates[name]), "tokens/s",
                spread=spread(rates[name]), samples=tuple(rates[name]),
            )
            for name in rates
        ),
        made(
            f"… {other} of the speed {plain}, by CPU time", median(shares), "%",
            goal=100 * goal, spread=spread(shares), samples=tuple(shares),
        ),
    ]  # fmt: skip
