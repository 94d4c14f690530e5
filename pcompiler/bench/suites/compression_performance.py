"""Fewer bytes: entropy coding of real text, its share saved, its speed beside plain zstd.

What bounds it: a compressor sees only the text in its frame and in its dictionary. A stream of
megabytes of one kind shows what a level can do; short texts lose what they cannot refer to, and
a dictionary learnt from other files gives some of it back. Speed is zstd's own; ours adds a
checksum when writing, and a look at each frame's head before anything is allocated when reading.
"""

from __future__ import annotations

from pcompiler import progress
from pcompiler.bench import corpora, entropy_goals, entropy_study
from pcompiler.bench.entropy_study import QUICK, Study
from pcompiler.bench.harness import Figure, Setting


def run(setting: Setting) -> list[Figure]:
    """All figures of the suite."""
    return _entropy(setting)


def _entropy(setting: Setting) -> list[Figure]:
    study = QUICK if setting.quick else Study().timed(setting.rounds)
    found, missing = corpora.load(setting.data)
    outcomes = []
    with progress.bar(len(found) * study.size, "compression_performance", "method") as shown:
        for corpus in found:
            for outcome in entropy_study.run(corpus, study):
                outcomes.append(outcome)
                shown.update()
    return entropy_goals.figures(outcomes, missing)
