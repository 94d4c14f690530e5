"""Where the time of a compile goes, stage by stage, and how it grows with the prompt.

What bounds it: a prefill of n tokens is 2·P·n operations and 4·L·d·n² for attention (SmolLM2: P =
134 M; the two are equal at n = 7,700), a kv artifact 23 KB a token to be compressed; parsing and
tokenizing read the text once. So all but attention grows as n, and the total as n to n².
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from pcompiler import clock, pipeline, progress
from pcompiler.bench import corpora
from pcompiler.config import FITTING, Config, ProbeConfig, TargetConfig
from pcompiler.errors import InputError
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.pipeline import Gates, Work
from pcompiler.store.db import Store

STAGES = (
    "parse", "passes", "tokenize", "prefill", "probing", "walk", "solving", "build", "codec",
    "store", "measure", "first_token", "elsewhere",
)  # fmt: skip
WHOLE = ("total_s", "wall_s", "cpu_s")
LENGTHS = (100, 250, 500, 1_000, 2_000, 4_000, 8_000)  # tokens
QUICK_LENGTHS = (100, 200, 400)
QUICK_PROBES = ProbeConfig(fitting=12, query_tokens=16, answer_tokens=8)  # as few as there may be
PROBES = ProbeConfig(fitting=FITTING)  # for all alike: weights alone would take more
QUICK_FITTED_MOST = 100  # tokens up to which weights and hybrid run: each takes half a minute
SHORT = 1_000  # tokens up to which kv and text are timed more than once
SETTINGS = {
    "kv": TargetConfig(), "text": TargetConfig(rate=0.5), "weights": TargetConfig(rank=16),
    "hybrid": TargetConfig(factor=10, rank=16),
}  # fmt: skip
FITTED = ("weights", "hybrid")
ROUNDS = 3
QUERY = "What does this say about names, and where are they looked up?"
GROWS_FROM = 500  # tokens: below, what every call costs hides how it grows


@dataclass(frozen=True)
class Taken:
    """One target at one length.

    Attributes:
        target: its name.
        tokens: of the prompt, template included.
        seconds: by stage, wall or CPU time, medians of the rounds; walk is without solving.
        total_s: of the whole call, by the same clock, median.
        wall_s: of the whole call, median.
        cpu_s: of the process meanwhile, all threads, median.
        rounds: that were timed.
    """

    target: str
    tokens: int
    seconds: dict[str, float]
    total_s: float
    wall_s: float
    cpu_s: float
    rounds: int


def plan(targets: Sequence[str], quick: bool) -> tuple[list[tuple[str, int]], list[str]]:
    """Targets with the lengths that they run at, and what is left out, in words."""
    if not quick:
        return [(target, tokens) for target in targets for tokens in LENGTHS], []
    left, most = [], QUICK_FITTED_MOST
    if {"weights", "hybrid"} <= set(targets):
        targets = [target for target in targets if target != "weights"]
        left.append("weights: a quick run has hybrid, whose stages are the same")
    left += [
        f"{target} above {most:,} tokens: fitting takes a minute there"
        for target in targets
        if target in FITTED
    ]
    runs = [(t, n) for t in targets for n in QUICK_LENGTHS if t not in FITTED or n <= most]
    return runs, left


def measure(
    model: LanguageModel,
    store: Store,
    runs: Sequence[tuple[str, int]],
    config: Config,
    rounds: int = ROUNDS,
    read: Callable[[], float] = time.perf_counter,
) -> Iterator[Taken]:
    """Compile each; artifacts do not stay in the store.

    Args:
        model: that is compiled for.
        store: open for writing.
        runs: targets and lengths in tokens.
        config: its probes and store settings count.
        rounds: of kv and text up to 1,000 tokens; the others run once.
        read: the clock of the stages; ``time.process_time`` is disturbed less by other work.

    Raises:
        InputError: a length that the model's window or the text at hand does not allow.
    """
    text = _text()
    warm = Work(_cut(model, text, runs[0][1]), (Probe(QUERY),), model, config)
    store.delete(pipeline.compile_prompt(warm, runs[0][0], store, Gates()).id)
    with progress.bar(len(runs), "stages", "compile") as shown, clock.timing_by(read):
        for target, tokens in runs:
            count = 1 if target in FITTED or tokens > SHORT else rounds
            source = _cut(model, text, tokens)
            yield _median([_once(source, target, model, store, config) for _ in range(count)])
            shown.update()


def exponent(taken: Sequence[Taken], stage: str) -> float | None:
    """How a stage of one target grows: seconds as tokens to the power of this; None: too few.

    Fitted to the lengths from 500 tokens on, or to all where fewer than three are as long.
    """
    points = [(t.tokens, t.total_s if stage == "total" else t.seconds[stage]) for t in taken]
    points = [(tokens, s) for tokens, s in points if s > 0]
    longer = [point for point in points if point[0] >= GROWS_FROM]
    chosen = longer if len(longer) >= 3 else points
    if len({tokens for tokens, _ in chosen}) < 3:
        return None
    tokens, seconds = np.log(np.array(chosen)).T
    return float(np.polyfit(tokens, seconds, 1)[0])


def _once(source: str, target: str, model: LanguageModel, store: Store, config: Config) -> Taken:
    work = Work(source, (Probe(QUERY),), model, replace(config, targets=SETTINGS[target]))
    model.device.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    done = pipeline.compile_prompt(work, target, store, Gates())
    model.device.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    store.delete(done.id)
    spent = dict(work.compilation.spent)
    spent["walk"] = spent.get("walk", 0.0) - spent.get("solving", 0.0)
    spent["elsewhere"] = done.elapsed_s - sum(spent.values())
    seconds = {stage: spent.get(stage, 0.0) for stage in STAGES}
    return Taken(target, done.header.context_tokens, seconds, done.elapsed_s, wall, cpu, 1)


def _median(rounds: Sequence[Taken]) -> Taken:
    seconds = {stage: median(r.seconds[stage] for r in rounds) for stage in STAGES}
    whole = {name: median(getattr(r, name) for r in rounds) for name in WHOLE}
    return Taken(rounds[0].target, rounds[0].tokens, seconds, **whole, rounds=len(rounds))


def _text() -> str:
    """Python's manual, which every machine has, as one text."""
    (corpus,), _ = corpora.load(None, (corpora.DOCS,))
    files = sorted((*corpus.training, *corpus.measured), key=lambda file: file.name)
    return "\n\n".join(file.data.decode() for file in files)


def _cut(model: LanguageModel, text: str, tokens: int) -> str:
    """The beginning of the text, which with the chat template has about so many tokens."""
    template = len(Work("x", None, model, Config()).compilation.context) - 1
    wanted = tokens - template
    encoding = model.tokenizer(
        text[: 16 * tokens], add_special_tokens=False, return_offsets_mapping=True
    )
    ends = [end for _, end in encoding["offset_mapping"]]
    if not 0 < wanted <= len(ends):
        raise InputError(f"a prompt of {tokens} tokens cannot be made for {model.name}.")
    return text[: ends[wanted - 1]]
