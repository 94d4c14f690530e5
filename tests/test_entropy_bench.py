"""Entropy coding measured: round trips are compared, shares are ratios, figures have references."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pydoc_data.topics import topics

import pytest

from benches.compression_test import main as script
from pcompiler.bench import entropy_goals, entropy_study, reference, zstd_command
from pcompiler.bench.__main__ import main
from pcompiler.bench.corpora import DOCS, KINDS, PROMPTS, Corpus, File, split
from pcompiler.bench.entropy import (
    KB2,
    KB8,
    STREAM,
    WHOLE,
    Method,
    Outcome,
    Timing,
    elsewhere,
    measure,
    read_back,
)  # fmt: skip
from pcompiler.bench.entropy_study import Plan, Study
from pcompiler.bench.harness import Repeat
from pcompiler.bench.race import Lap, race, speed
from pcompiler.codec.dictionary import train
from pcompiler.codec.zstd import Codec
from pcompiler.errors import DamageError

FAST = Timing(rounds=2, lap_s=0.0005, command_s=0.0)
SMALL = Study(
    sample_bytes=2**15,
    stream_bytes=2**16,
    plans=(Plan((3, 9)), Plan((3, 9), 2**14)),
    streams=(Method(3), Method(3, long_distance=True), Method(3, threads=2)),
    command_levels=(),
    timing=FAST,
)
TEXTS = [text.encode() for _, text in sorted(topics.items())[:30]]


@pytest.fixture(scope="module")
def docs() -> Corpus:
    files = [File(name, text.encode()) for name, text in topics.items()]
    return Corpus(DOCS, "help topics", *split(files))


@pytest.fixture(scope="module")
def outcomes(docs: Corpus) -> list[Outcome]:
    return list(entropy_study.run(docs, SMALL))


def test_a_damaged_frame_is_refused() -> None:
    codec = Codec(3)
    frames = codec.compress_many(TEXTS)
    assert read_back(codec, TEXTS, frames) == sum(map(len, TEXTS))
    for at in (0, len(frames[3]) // 2, len(frames[3]) - 1):
        damaged = bytearray(frames[3])
        damaged[at] ^= 1
        with pytest.raises(DamageError):
            read_back(codec, TEXTS, [*frames[:3], bytes(damaged), *frames[4:]])


def test_a_sound_frame_of_another_text_is_refused() -> None:
    frames = Codec(3).compress_many(TEXTS)
    frames[0], frames[1] = frames[1], frames[0]
    with pytest.raises(DamageError, match="text 0 of 30"):
        read_back(Codec(3), TEXTS, frames)


def test_an_outcome_counts_what_the_codec_keeps() -> None:
    learnt = train(TEXTS[10:], 2**14)
    for method in (Method(3), Method(9, learnt, 3), Method(3, threads=2)):
        found = measure(DOCS, WHOLE, TEXTS[:10], method, FAST)
        frames = method.codec().compress_many(TEXTS[:10])
        assert found.kept_bytes == sum(map(len, frames))
        assert found.equal_bytes == found.size_bytes == sum(map(len, TEXTS[:10]))
        assert 0 < found.framing_bytes < 30 * 10
        assert (found.gain is not None) == (method.threads == 2)


def test_a_share_is_the_ratio_of_two_times_round_by_round() -> None:
    ours = [Lap(2.0, 1.0, 10**6), Lap(4.0, 2.0, 10**6), Lap(8.0, 4.0, 10**6)]
    other = [Lap(1.0, 0.5, 10**6), Lap(4.0, 2.0, 10**6), Lap(24.0, 8.0, 10**6)]
    found = speed(ours, other)
    assert (found.share, found.wall_share) == (1.0, 1.0)  # of 0.5, 1, 2 and of 0.5, 1, 3
    assert (found.mb_per_cpu_s, found.mb_per_s) == (0.5, 0.25)
    assert found.spread == 0.75


def test_a_race_tells_the_slower_from_the_faster() -> None:
    data = TEXTS[0] * 40

    def once() -> object:
        return Codec(3).compress(data)

    found = race(lambda: [once() for _ in range(4)], once, len(data), Repeat(5), 0.005)
    assert found.share < 0.6


def test_a_dictionary_knows_nothing_of_what_is_measured() -> None:
    """Noise that is in the measured files only: a dictionary that had seen it would save it."""
    noise = random.Random(0)
    measured = tuple(File(f"noise {i}", noise.randbytes(2000).hex().encode()) for i in range(8))
    training = tuple(File(name, text.encode()) for name, text in topics.items())
    found = list(entropy_study.run(Corpus(DOCS, "noise", training, measured), SMALL))
    whole = [o for o in found if o.cut == WHOLE and o.threads == 1]
    assert any(o.dictionary_bytes for o in whole)
    assert all(o.saved < 0.5 for o in whole)  # a hex digit takes half a byte


def test_the_study_covers_cuts_levels_and_dictionaries(outcomes: list[Outcome]) -> None:
    assert {o.cut for o in outcomes} == {STREAM, WHOLE, KB8, KB2}
    assert len(outcomes) == SMALL.size
    for cut in (WHOLE, KB8, KB2):
        found = {(o.level, bool(o.dictionary_bytes)): o.saved for o in outcomes if o.cut == cut}
        assert found[3, True] > found[3, False]
        assert found[9, True] > found[9, False] > 0


def test_the_same_study_saves_the_same(docs: Corpus, outcomes: list[Outcome]) -> None:
    again = list(entropy_study.run(docs, SMALL))
    assert [o.kept_bytes for o in again] == [o.kept_bytes for o in outcomes]


def test_figures_stand_beside_their_references(outcomes: list[Outcome]) -> None:
    found = entropy_goals.figures(outcomes, {PROMPTS: "give a folder"})
    saved = [f for f in found if ": saved" in f.name and STREAM not in f.name]
    assert [f.reference for f in saved] == [72.0] * 3
    assert all(f.note and "heads and checksums" in f.note for f in saved)
    speeds = [f for f in found if f.unit == "MB/CPU-s" and DOCS in f.name]
    assert speeds
    assert all(f.reference == 850 and f.baseline and f.baseline > 0 for f in speeds)
    assert all(f.note and "cores" in f.note for f in speeds)
    shares = [f for f in found if "share of plain zstd" in f.name]
    assert len(shares) == 3 * 4
    assert all(f.goal == 90.0 and f.value > 0 for f in shares)
    types = found[-1]
    assert (types.value, types.note) == (1, "prompts: give a folder")


def test_names_hold_nothing_that_was_measured(outcomes: list[Outcome]) -> None:
    """Or two runs could not be compared."""
    other = [replace(o, level=o.level + 1, kept_bytes=o.kept_bytes - 1) for o in outcomes]
    names, others = (
        {f.name for f in entropy_goals.figures(some, {})} for some in (outcomes, other)
    )
    assert names == others


def test_the_published_figures_are_of_known_types() -> None:
    for published in (
        reference.COMPRESSION_SAVED,
        reference.COMPRESSION_MB_PER_S,
        reference.COMPRESSION_QUALITY,
    ):
        assert set(published) == set(KINDS) - {PROMPTS}


def test_other_compressors_are_measured_too() -> None:
    found = elsewhere([b"ab" * 5000])
    assert set(found) == {"bzip2", "xz"}
    assert all(0.9 < saved < 1 for saved in found.values())


def test_tables_and_json_hold_every_outcome(docs: Corpus, outcomes: list[Outcome]) -> None:
    assert len(entropy_study.as_table(outcomes).splitlines()) == len(outcomes) + 2
    assert len(entropy_study.as_json(outcomes, SMALL)["outcomes"]) == len(outcomes)
    assert "help topics" in entropy_study.sizes([docs], SMALL)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the zstd command is not installed")
def test_the_zstd_command_is_read_right() -> None:
    found = zstd_command.measure(TEXTS, 3)
    assert found is not None
    kept = sum(map(len, Codec(3).compress_many(TEXTS)))
    assert found.kept_bytes == pytest.approx(kept, rel=0.05)  # another version, no checksums
    assert found.compress_mb_per_s > 1
    assert found.decompress_mb_per_s > 1
    assert 0 < found.cpu_share <= 1.05


def test_a_data_folder_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--data", "/no/such/folder"]) == 2
    assert script(["--data", "/no/such/folder"]) == 2
    assert capsys.readouterr().err.count("is not a folder") == 2
