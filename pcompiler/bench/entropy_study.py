"""The entropy coding study: content types × cuts × levels × dictionaries × threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pcompiler.bench import corpora
from pcompiler.bench.corpora import Corpus, size_bytes
from pcompiler.bench.entropy import (
    KB2,
    KB8,
    PIECE_BYTES,
    STREAM,
    WHOLE,
    Beside,
    Method,
    Outcome,
    Timing,
    elsewhere,
    measure,
)  # fmt: skip
from pcompiler.bench.race import Speed
from pcompiler.codec.dictionary import train
from pcompiler.config import MAX_DICTIONARY_BYTES
from pcompiler.table import nbytes, render

SMALL_DICTIONARY = 112 * 1024  # zstd's own default


@dataclass(frozen=True)
class Plan:
    """Levels with one dictionary.

    Attributes:
        levels: of zstd.
        dictionary_bytes: at most; 0: without.
        learnt_level: that the dictionary is made for.
    """

    levels: tuple[int, ...]
    dictionary_bytes: int = 0
    learnt_level: int = 3


@dataclass(frozen=True)
class Study:
    """What is varied.

    Attributes:
        sample_bytes: of measured files of one type, at most: seeded choice.
        stream_bytes: of the one stream of all files of a type, at most.
        plans: for whole files and for pieces of them.
        streams: for the one stream; it needs no dictionary, so its files are all of the type's.
        threaded: levels that are measured on two threads too, without a dictionary.
        command_levels: levels, whole files, that the zstd command is asked for.
        timing: how long each is timed.
    """

    sample_bytes: int = 3 * 2**18  # level 19 takes half a second for it, and more to be timed
    stream_bytes: int = 2**22
    plans: tuple[Plan, ...] = (
        Plan((-7, 1, 3, 9, 19)),
        Plan((1, 3, 9, 19), SMALL_DICTIONARY),
        Plan((3, 9, 19), MAX_DICTIONARY_BYTES),
    )
    streams: tuple[Method, ...] = (
        Method(3), Method(3, threads=2), Method(3, long_distance=True),
        Method(19, long_distance=True),
    )  # fmt: skip
    threaded: tuple[int, ...] = (3,)
    command_levels: tuple[int, ...] = (3,)
    timing: Timing = field(default_factory=Timing)

    @property
    def size(self) -> int:
        """Number of outcomes for one content type, at most."""
        each = sum(len(plan.levels) for plan in self.plans) + len(self.threaded)
        return len(self.streams) + 3 * each

    def timed(self, rounds: int) -> Study:
        """The same with another number of timed rounds."""
        return replace(self, timing=replace(self.timing, rounds=rounds))


QUICK = Study(
    sample_bytes=3 * 2**16,
    stream_bytes=2**19,
    plans=(Plan((-7, 3, 19)), Plan((3, 19), MAX_DICTIONARY_BYTES)),
    streams=(Method(3), Method(19)),
    command_levels=(),
    timing=Timing(rounds=3, lap_s=0.01),
)
_LEARNT = (1, 3, 9, 15, 19, 22)
FULL = Study(
    sample_bytes=2**20,
    plans=(
        Plan((-7, -5, -3, -1, 1, 3, 6, 9, 12, 15, 19, 22)),
        *(Plan(_LEARNT, n * 1024) for n in (112, 256, 512, 1024)),
        Plan((3, 19), SMALL_DICTIONARY, learnt_level=19),
        Plan((3, 19), MAX_DICTIONARY_BYTES, learnt_level=19),
    ),
    streams=(
        *(Method(level, long_distance=far) for level in (1, 3, 9, 19, 22) for far in (False, True)),
        Method(3, threads=2),
    ),
    threaded=(1, 3, 9, 19),
    command_levels=(1, 3, 9, 19),
)


def run(corpus: Corpus, study: Study) -> Iterator[Outcome]:
    """All outcomes of one content type; yields as it goes.

    Raises:
        DamageError: a text did not come back as it was.
    """
    kind, timing = corpus.kind, study.timing
    files = corpora.sample((*corpus.training, *corpus.measured), study.stream_bytes)
    stream = [b"\n".join(file.data for file in files)]
    for i, method in enumerate(study.streams):
        outcome = measure(kind, STREAM, stream, method, timing.beside_command(False))
        yield outcome if i else replace(outcome, elsewhere=elsewhere(stream))
    cuts = _cuts(corpus.sample(study.sample_bytes))
    for method in _methods(corpus, study):
        for cut, parts in cuts.items():
            plain = cut == WHOLE and not method.dictionary and method.threads == 1
            asked = plain and method.level in study.command_levels
            yield measure(kind, cut, parts, method, timing.beside_command(asked))


def _cuts(corpus: Corpus) -> dict[str, list[bytes]]:
    whole = [file.data for file in corpus.measured]
    cut = {
        name: [piece for data in whole for piece in corpora.pieces(data, PIECE_BYTES[name])]
        for name in (KB8, KB2)
    }
    return {WHOLE: whole} | cut


def _methods(corpus: Corpus, study: Study) -> Iterator[Method]:
    for level in study.threaded:
        yield Method(level, threads=2)
    seen: set[tuple[int, int]] = set()
    for plan in study.plans:
        learnt = None
        if plan.dictionary_bytes:
            samples = (file.data for file in corpus.training)
            learnt = train(samples, plan.dictionary_bytes, level=plan.learnt_level)
            if (key := (len(learnt.data), plan.learnt_level)) in seen:
                continue  # there was no more to learn
            seen.add(key)
        for level in plan.levels:
            yield Method(level, learnt, plan.learnt_level)


def sizes(found: Sequence[Corpus], study: Study) -> str:
    """A table of where the texts are from and how many there are."""
    columns = ("content", "source", "learnt from", "could be measured", "measured")
    return render(columns, [_sizes(corpus, study) for corpus in found])


def _sizes(corpus: Corpus, study: Study) -> list[str]:
    chosen = corpus.sample(study.sample_bytes).measured
    sides = (corpus.training, corpus.measured, chosen)
    counts = [f"{len(files)} files, {nbytes(size_bytes(files))}" for files in sides]
    return [corpus.kind, corpus.source, *counts]


def as_table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes; MB are 10^6 bytes, shares are of plain zstd in the same run."""
    columns = [
        "content", "cut", "level", "dictionary", "threads", "saved", "MB/CPU-s", "of zstd", "±",
        "MB/s", "gain", "back MB/CPU-s", "of zstd", "±", "command", "ours beside it", "same bytes",
    ]  # fmt: skip
    return render(columns, [_row(outcome) for outcome in outcomes])


def as_json(outcomes: Sequence[Outcome], study: Study) -> dict[str, Any]:
    """Study and outcomes."""
    return {"study": asdict(study), "outcomes": [asdict(outcome) for outcome in outcomes]}


def how(outcome: Outcome) -> str:
    """A method in words: "level 9 + 114.7 KB dictionary"."""
    words = [f"level {outcome.level}"]
    if outcome.dictionary_bytes:
        words.append(f"{nbytes(outcome.dictionary_bytes)} dictionary")
    if outcome.long_distance:
        words.append("long distance")
    return " + ".join(words + [f"{outcome.threads} threads"] * (outcome.threads > 1))


def _row(o: Outcome) -> list[str]:
    far = " long" if o.long_distance else ""
    learnt = f"{nbytes(o.dictionary_bytes)} for {o.learnt_level}" if o.dictionary_bytes else "–"
    return [
        o.kind, o.cut, f"{o.level}{far}", learnt, str(o.threads), f"{o.saved:.1%}",
        *_speed(o.compress, o.threads), f"{o.compress.mb_per_s:.3g}",
        f"{o.gain.wall_share:.2f} ×" if o.gain else "", *_speed(o.decompress, 1),
        *_beside(o.beside), f"{o.equal_bytes:,}",
    ]  # fmt: skip


def _beside(beside: Beside | None) -> list[str]:
    if beside is None:
        return ["", ""]
    both = (beside.command.compress_mb_per_cpu_s, beside.compress_mb_per_cpu_s)
    return [f"{rate:.3g}" for rate in both]


def _speed(speed: Speed, threads: int) -> list[str]:
    """On one thread shares are of CPU time, on several of wall time."""
    share = speed.share if threads == 1 else speed.wall_share
    return [f"{speed.mb_per_cpu_s:.3g}", f"{share:.0%}", f"{speed.spread:.0%}"]
