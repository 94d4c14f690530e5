"""Fewer bytes of real text by entropy coding, and fewer tokens: two things, told apart.

Of the second see ``bench.semantic``. What bounds the first: a compressor sees only the text in
its frame and in its dictionary. A stream of megabytes of one kind shows what a level can do; short
texts lose what they cannot refer to, and a dictionary learnt from other files gives some of it
back. Speed is zstd's own; ours adds a checksum when writing, and a look at each frame's head before
anything is allocated when reading.
"""

from __future__ import annotations

from collections.abc import Sequence

from pcompiler import progress
from pcompiler.bench import cache_bytes, corpora, entropy_goals, entropy_study, semantic
from pcompiler.bench.corpora import Corpus
from pcompiler.bench.entropy_study import QUICK, Study
from pcompiler.bench.harness import Figure, Setting
from pcompiler.model import LanguageModel


def run(setting: Setting) -> list[Figure]:
    """All figures of the suite."""
    found, missing = corpora.load(setting.data)
    entropy = _entropy(setting, found, missing)
    model = LanguageModel.load("smollm2", str(setting.device.handle))
    caches = cache_bytes.figures(model, setting)
    return [*entropy, *caches, *semantic.figures(setting, found, model)]


def _entropy(setting: Setting, found: Sequence[Corpus], missing: dict[str, str]) -> list[Figure]:
    study = QUICK if setting.quick else Study().timed(setting.rounds)
    outcomes = []
    with progress.bar(len(found) * study.size, "compression_performance", "method") as shown:
        for corpus in found:
            for outcome in entropy_study.run(corpus, study):
                outcomes.append(outcome)
                shown.update()
    return entropy_goals.figures(outcomes, missing)
