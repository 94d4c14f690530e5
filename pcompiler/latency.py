"""Seconds to the first answer token: with an artifact from the store, and with the full prompt."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from pcompiler.fidelity import Reference
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime import together
from pcompiler.runtime.decode import first_token
from pcompiler.store.shelf import Artifacts
from pcompiler.targets.base import Target

ROUNDS = 3


def of_artifact(
    model: LanguageModel, target: Target, store: Artifacts, name: str, teacher: Reference
) -> float:
    """From an id in the store to the first token, loading included.

    The median of a few rounds; one of many prompts side by side is timed once, as if alone.
    """
    query = _middle(teacher.queries)
    return _median_s(
        lambda: first_token(model, target.attach(model, store.get(name).tensors()), query)
    )


def of_full_prompt(model: LanguageModel, teacher: Reference, prefill_s: float) -> float:
    """From the prompt's tokens to the first token: its prefill, timed once, and the query."""
    query = _middle(teacher.queries)
    return prefill_s + _median_s(lambda: first_token(model, teacher.teacher, query))


def _middle(queries: Sequence[list[int]]) -> list[int]:
    return sorted(queries, key=len)[len(queries) // 2]


@ranged("time to first token")
def _median_s(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS if together.company() == 1 else 1):
        start = time.perf_counter()
        with together.apart():
            action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
