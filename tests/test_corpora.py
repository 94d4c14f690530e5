"""Real text: no file is on both sides, the contents alone decide, pieces are the whole text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcompiler.bench import corpora
from pcompiler.bench.corpora import DOCS, PROMPTS, File, pieces, sample, size_bytes, split
from pcompiler.errors import InputError


def text(seed: int, lines: int = 20) -> bytes:
    chosen = random.Random(seed)
    words = ["".join(chosen.choices("abcdefgh", k=7)) for _ in range(300)]
    return "\n".join(" ".join(chosen.choices(words, k=8)) for _ in range(lines)).encode()


FILES = [File(f"file {i}", text(i)) for i in range(60)]


def test_no_file_is_on_both_sides_and_none_is_lost() -> None:
    learnt, measured = split(FILES)
    assert {f.name for f in learnt} | {f.name for f in measured} == {f.name for f in FILES}
    assert not {f.data for f in learnt} & {f.data for f in measured}
    share = size_bytes(learnt) / size_bytes(FILES)
    assert share == pytest.approx(corpora.LEARN_SHARE, abs=0.05)


def test_the_contents_decide_and_neither_names_nor_order() -> None:
    learnt, measured = split(FILES)
    shuffled = random.Random(1).sample([File(f"{i}.txt", f.data) for i, f in enumerate(FILES)], 60)
    again, others = split(shuffled)
    assert [f.data for f in again] == [f.data for f in learnt]
    assert [f.data for f in others] == [f.data for f in measured]


def test_files_that_quote_one_another_stay_together() -> None:
    quoting = [File(f"quotes {f.name}", text(100 + i, 5) + b"\n" + f.data)
               for i, f in enumerate(FILES)]  # fmt: skip
    for side in split([*FILES, *quoting]):
        names = {f.name for f in side}
        assert names
        assert all((f.name in names) == (f"quotes {f.name}" in names) for f in FILES)


def test_equal_files_are_taken_once() -> None:
    twice = [File("one", FILES[0].data), File("two", FILES[0].data), *FILES[1:9]]
    found = [f.data for side in split(twice) for f in side]
    assert len(found) == len(set(found)) == 9


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=300), st.integers(4, 40))
def test_pieces_are_the_whole_text_and_cut_no_character(given_text: str, size: int) -> None:
    data = given_text.encode("utf-8", "replace")
    found = pieces(data, size)
    assert b"".join(found) == data
    assert all(0 < len(piece) <= size for piece in found)
    assert "".join(piece.decode() for piece in found).encode() == data
    assert all(len(piece) > size - 4 for piece in found[:-1])


def test_a_sample_is_within_its_budget_and_the_same_for_a_seed() -> None:
    budget = size_bytes(FILES) // 4
    chosen = sample(FILES, budget, seed=3)
    assert chosen == sample(FILES[::-1], budget, seed=3) != sample(FILES, budget, seed=4)
    assert budget - max(len(f.data) for f in FILES) < size_bytes(chosen) <= budget
    assert len(sample(FILES, 1)[0].data) == min(len(f.data) for f in FILES)


def test_every_machine_has_documents_and_code(tmp_path: Path) -> None:
    found, missing = corpora.load(tmp_path)
    kinds = [corpus.kind for corpus in found]
    assert {"technical docs", "code", "mixed"} <= set(kinds)
    assert set(kinds) | set(missing) == set(corpora.KINDS)
    assert "--data" in missing["prompts"]
    for corpus in found:
        assert not {f.data for f in corpus.training} & {f.data for f in corpus.measured}
        assert all(f.data.decode() for f in corpus.measured)


def test_prompts_are_read_from_the_data_folder(tmp_path: Path) -> None:
    rows = "".join(f'"role {i}","{text(i, 2).decode()}",TRUE\n' for i in range(9))
    (tmp_path / "prompts_cc0.csv").write_text(f"act,prompt,for_devs\n{rows}")
    found = {corpus.kind: corpus for corpus in corpora.load(tmp_path, [PROMPTS])[0]}[PROMPTS]
    assert len(found.training) + len(found.measured) == 9


def test_a_data_folder_that_is_none_or_has_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        corpora.load(tmp_path / "nowhere")
    (tmp_path / "prompts_cc0.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="act and prompt"):
        corpora.load(tmp_path, [PROMPTS])


def test_documents_share_hardly_a_line_with_what_a_dictionary_learns_from() -> None:
    (docs,), _ = corpora.load(kinds=[DOCS])
    learnt = {line for f in docs.training for line in f.data.split(b"\n") if len(line) > 30}
    lines = [line for f in docs.measured for line in f.data.split(b"\n") if len(line) > 30]
    assert sum(map(len, learnt & set(lines))) < 0.05 * sum(map(len, lines))
