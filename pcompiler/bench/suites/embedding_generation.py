"""Vectors of a batch of 100 texts, short and long, and of a workload that repeats itself.

What bounds it: a BERT of L layers, width d and inner width f takes 2·L·(4·d² + 2·d·f) operations a
token and 4·L·d·n more for attention among n (MiniLM: 21 MFLOP); the floor is these at the rate of
a large matrix product in the same run. A static table is bound by its tokenizer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from pcompiler import progress
from pcompiler.bench import reference, sentences
from pcompiler.bench.harness import Figure, Samples, Setting
from pcompiler.embed.base import Provider
from pcompiler.embed.cache import Cached, InMemory, VectorStore
from pcompiler.embed.encoder import Encoder
from pcompiler.embed.ragged import faster
from pcompiler.embed.static import Static
from pcompiler.store.db import Store

BATCH = 100
SIDE = 2048  # of the matrix product that tells this machine's rate
DISTINCT, REQUESTS = 2_000, 20_000  # texts of the workload, and how often one is asked for
QUICK_DISTINCT, QUICK_REQUESTS = 200, 2_000
LENGTHS = {"short": sentences.SHORT, "long": sentences.LONG}
_figure = partial(Figure, "embedding_generation")


class _Counting(Provider, Protocol):
    def count(self, texts: Sequence[str]) -> int: ...


def run(setting: Setting) -> list[Figure]:
    """All figures of the suite."""
    bench = _Bench(setting)
    figures = [_figure("large matrix product", bench.rate / 1e9, "GFLOP/s", "higher")]
    with progress.bar(len(bench.providers), "embedding_generation", "provider") as shown:
        for name, provider in bench.providers.items():
            for length, texts in bench.texts.items():
                figures += bench.batch(name, provider, length, texts)
            figures += bench.workload(name, provider)
            shown.update()
    return figures


class _Bench:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.encoder = Encoder.load(str(setting.device.handle))
        self.rate = _rate(setting)
        words = self.encoder.tokenizer
        self.texts = {name: sentences.texts(words, n, BATCH) for name, n in LENGTHS.items()}
        self.providers: dict[str, _Counting] = {"encoder": self.encoder}
        if self.encoder.is_ragged:
            # What a precision is worth is measured even where ``load`` would not take it.
            names = [p for p in ("bfloat16", "int8") if faster(self.encoder.hf, p)]
            self.providers |= {f"encoder, {p}": replace(self.encoder, precision=p) for p in names}
        self.providers["static"] = Static.load()

    def batch(
        self, name: str, provider: _Counting, length: str, texts: Sequence[str]
    ) -> list[Figure]:
        """A batch of 100, nothing cached; the baseline of an encoder is the floor."""
        times, tokens = self._timed(provider, texts), provider.count(texts)
        each = f"{name}, {length}"
        static = isinstance(provider, Static)
        goal = reference.STATIC_PER_S_GOAL if static and length == "short" else None
        floor = None if static else BATCH / self._floor(tokens, tokens / BATCH)
        per_s = BATCH / times.median
        batch_s = {kind: reference.EMBEDDING_BATCH_S[kind] for kind in _rows(name)}
        return [
            _figure(f"{each}, {BATCH} texts", times.median, "s", "lower",
                    next(iter(batch_s.values()), None), floor and BATCH / floor, times.spread,
                    times.cpu_median, "the baseline is the floor: operations at the matmul rate.",
                    tuple(times.wall)),
            _figure(f"{each}, cold", per_s, "texts/s", "higher", None, floor,
                    per_s * times.spread / times.median, goal=goal,
                    samples=tuple(BATCH / s for s in times.wall)),
            _figure(f"{each}, cold, tokens", tokens / times.median, "tokens/s", "higher",
                    samples=tuple(tokens / s for s in times.wall)),
        ]  # fmt: skip

    def workload(self, name: str, provider: _Counting) -> list[Figure]:
        """Short texts asked for by Zipf's law, in batches of 100, through the cache."""
        quick = self.setting.quick
        distinct, requests = (QUICK_DISTINCT, QUICK_REQUESTS) if quick else (DISTINCT, REQUESTS)
        pool = sentences.texts(self.encoder.tokenizer, sentences.SHORT, distinct, seed=1)
        asked = [pool[i] for i in sentences.zipf(distinct, requests)]
        times = Samples()
        with _vectors() as store:
            cached = Cached(provider, store)
            for at in range(0, requests, BATCH):
                batch = asked[at : at + BATCH]
                times.time(self.setting.device, partial(cached.embed, batch))
        kind = next(iter(_rows(name)), None)
        per_s, hits = requests / sum(times.wall), cached.counts.hit_rate
        rates, shares = reference.EMBEDDING_PER_S, reference.EMBEDDING_HITS
        note = "misses cost what a cold text costs; nothing was in the cache at first."
        return [
            _figure(f"{name}, workload of {requests:,}, from an empty cache", per_s, "texts/s",
                    "higher", rates[kind] if kind else None, goal=reference.CACHED_PER_S_GOAL,
                    cpu_s=sum(times.cpu) / len(times.cpu), note=note),
            _figure("… its batches of 100, median", times.median, "s", "lower",
                    reference.EMBEDDING_BATCH_S[kind] if kind else None, spread=times.spread),
            _figure("… hit rate", 100 * hits, "%", "higher", 100 * shares[kind] if kind else None),
        ]  # fmt: skip

    def _timed(self, provider: Provider, texts: Sequence[str]) -> Samples:
        times = Samples()
        provider.embed(texts)  # warm-up
        for _ in self.setting.repeat.until_steady(times.wall):
            times.time(self.setting.device, lambda: provider.embed(texts))
        return times

    def _floor(self, tokens: int, each: float) -> float:
        """Seconds that the operations of so many tokens, in texts of ``each``, take at least."""
        c = self.encoder.hf.config
        d, f, layers = c.hidden_size, c.intermediate_size, c.num_hidden_layers
        operations = tokens * layers * (2 * (4 * d * d + 2 * d * f) + 4 * d * each)
        return float(operations / self.rate)


def _rows(name: str) -> list[str]:
    """The published row that a provider answers: the best of ours for the largest of theirs."""
    rows = {"encoder": ["large"], "encoder, int8": ["legacy"], "static": ["small"]}
    return rows.get(name, [])


def _rate(setting: Setting) -> float:
    """Operations a second of a large float32 matrix product, at best."""
    a, times = torch.randn(SIDE, SIDE, device=setting.device.handle), Samples()
    for _ in range(4):
        times.time(setting.device, lambda: a @ a)
    return 2 * SIDE**3 / min(times.wall)


@contextmanager
def _vectors() -> Iterator[VectorStore]:
    """An empty store that keeps vectors; in memory where stores do not keep them."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store") as store:
        yield store if isinstance(store, VectorStore) else InMemory()
