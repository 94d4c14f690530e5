"""A corpus: what is read, what is told of every prompt, what is refused, what is kept apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcompiler.embed.static import Static
from pcompiler.errors import InputError
from pcompiler.scale.base import Entry
from pcompiler.scale.entries import open_corpus
from pcompiler.store.db import Store

Cli = Callable[..., tuple[int, str, str]]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello  you"}]


@pytest.fixture(autouse=True)
def _small_table(table: Static, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Static, "load", lambda: table)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def entries(path: Path) -> list[Entry]:
    with open_corpus(str(path)) as corpus:
        return list(corpus)


def test_lines_are_prompts_by_any_of_their_names(tmp_path: Path) -> None:
    given = lines(
        tmp_path / "in.jsonl",
        "\ufeff" + json.dumps({"prompt": "One.", "id": "a", "other": 1}) + "\n",
        {"text": "Two.", "id": 2, "queries": ["Who?", "When?"]},
        "\n  \n",
        {"source": "Three.", "prompt": None},
        {"messages": CHAT},
    )
    assert entries(given) == [
        Entry("One.", "a"),
        Entry("Two.", 2, ("Who?", "When?")),
        Entry("Three."),
        Entry(json.dumps(CHAT)),
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{\n", "line 1 is not JSON"),
        ("[1]\n", "no JSON object"),
        ("[" * 100_000 + "\n", "not JSON"),
        ({"id": 3}, "nothing that is named so"),
        ({"prompt": "a", "text": "b"}, "it has prompt, text"),
        ({"prompt": 5}, "has no prompt"),
        ({"messages": "Be brief."}, "has no prompt"),
        ({"prompt": "a", "queries": "Who?"}, "list of texts"),
        ({"prompt": "a", "queries": [" "]}, "none of them empty"),
        (b"\xff\xfe\n", "not JSON"),
    ],
)
def test_a_row_that_cannot_be_read_says_why_and_stops_no_other(
    tmp_path: Path, row: Any, said: str
) -> None:
    path = tmp_path / "in.jsonl"
    text = row if isinstance(row, bytes | str) else json.dumps(row) + "\n"
    path.write_bytes((text if isinstance(text, bytes) else text.encode()) + b'{"prompt": "x"}\n')
    bad, good = entries(path)
    assert said in str(bad.error)
    assert good == Entry("x")


def test_a_line_of_any_length_is_passed_over_without_being_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcompiler.scale.entries.MAX_BYTES", 2**20)
    long = {"prompt": "x" * 3 * 2**20}
    bad, good = entries(lines(tmp_path / "in.jsonl", long, {"prompt": "y"}))
    assert "over 1 MiB" in str(bad.error)
    assert (good, bad.source) == (Entry("y"), "")
    (unended,) = entries(lines(tmp_path / "unended.jsonl", json.dumps(long)))
    assert "over 1 MiB" in str(unended.error)


def test_a_folder_is_its_texts_in_order_of_their_paths(tmp_path: Path) -> None:
    for name, text in (
        ("b.md", "Two."),
        ("a.txt", "One."),
        ("sub/c.json", json.dumps(CHAT)),
        ("sub/d.md", ""),
        ("ignored.py", "pass"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = entries(tmp_path)
    assert [e.label for e in found] == ["a.txt", "b.md", "sub/c.json", "sub/d.md"]
    assert [e.source for e in found] == ["One.", "Two.", json.dumps(CHAT), ""]
    assert "is empty" in str(found[3].error)


def test_parquet_has_the_same_prompts_as_lines(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'pcompiler[scale]'")
    from pyarrow import parquet

    rows = [{"prompt": f"Desk {n}.", "id": n, "queries": ["Who?"] * (n % 3)} for n in range(600)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    assert entries(tmp_path / "in.parquet") == entries(lines(tmp_path / "in.jsonl", *rows))
    parquet.write_table(pyarrow.table({"messages": [CHAT, None]}), tmp_path / "chats.parquet")
    chat, bad = entries(tmp_path / "chats.parquet")
    assert json.loads(chat.source) == CHAT
    assert "row 2 has no prompt" in str(bad.error)
    parquet.write_table(pyarrow.table({"name": ["x"]}), tmp_path / "other.parquet")
    for name, said in (("other.parquet", "columns name"), ("in.jsonl", "as Parquet")):
        (tmp_path / name).rename(tmp_path / f"{name}.parquet")
        with pytest.raises(InputError, match=said):
            open_corpus(str(tmp_path / f"{name}.parquet"))


def test_how_many_lines_there_are_is_estimated_from_those_read(tmp_path: Path) -> None:
    rows = [{"prompt": f"Answer for desk {n:03}."} for n in range(200)]
    with open_corpus(str(lines(tmp_path / "in.jsonl", *rows))) as corpus:
        assert corpus.expected() == 0
        reading = iter(corpus)
        for _ in range(20):
            next(reading)
        assert corpus.expected() == 200


def test_each_content_is_compiled_once_and_what_failed_can_be_fed_in_again(
    cli: Cli, tmp_path: Path
) -> None:
    given = lines(
        tmp_path / "in.jsonl",
        {"prompt": "Be  brief."},
        {"prompt": ""},
        {"prompt": "Be  brief.", "id": "again"},
        {"prompt": "half \ud800", "id": "half"},
        "{\n",
        {"messages": CHAT},
    )
    words = ("corpus", "compile", given, "--target", "draft", "--json")
    dead, out = tmp_path / "dead.jsonl", tmp_path / "out.jsonl"
    code, told, err = cli(*words, "--dead-letters", dead, "--output", out, "--ordered")
    summary = json.loads(told.splitlines()[-1])
    assert (code, err) == (1, "")
    assert [summary[n] for n in ("prompts", "compiled", "found", "failed")] == [6, 2, 1, 3]
    rows = read(out)
    assert [row["number"] for row in rows] == list(range(6))
    assert rows[0]["artifact"] == rows[2]["artifact"]
    assert (rows[0]["found"], rows[2]["found"], rows[2]["id"]) == (False, True, "again")
    with Store(tmp_path / "store", "read") as store:
        kept = {draft.id for draft in store.drafts.all()}
    assert kept == {row["artifact"] for row in rows if row["artifact"]}
    letters = read(dead)
    assert [row["number"] for row in letters] == [1, 3, 4]
    assert [row.get("source") for row in letters] == ["", "half \ud800", None]
    assert [row["id"] for row in letters] == [None, "half", None]

    code, told, _ = cli(*words)
    assert json.loads(told.splitlines()[-1])["compiled"] == 0
    code, told, _ = cli("corpus", "compile", dead, "--target", "draft", "--json")
    assert (code, json.loads(told.splitlines()[-1])["failed"]) == (1, 3)
    lines(dead, {**letters[0], "source": "Mended."})
    code, told, _ = cli("corpus", "compile", dead, "--target", "draft", "--json")
    assert (code, json.loads(told.splitlines()[-1])["compiled"]) == (0, 1)


def test_people_are_told_rate_shares_and_the_first_reasons(cli: Cli, tmp_path: Path) -> None:
    given = lines(tmp_path / "in.jsonl", {"prompt": "Be brief."}, *[{"prompt": ""}] * 7)
    code, told, err = cli("corpus", "compile", given, "--target", "draft")
    assert (code, err) == (1, "")
    assert "8 prompts in" in told
    assert "1 compiled, 0 found" in told
    assert told.count("no text for the model") == 5
    assert "and 2 more" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("missing.jsonl",), "cannot read"),
        (("missing",), "does not exist"),
        (("tiny.toml",), "none of what a corpus may be"),
        (("empty",), "has no prompts"),
        (("in.jsonl", "--dead-letters", "there.jsonl"), "exists; give another name"),
        (("in.jsonl", "--output", "in.jsonl", "--overwrite"), "is the input"),
        (("in.jsonl", "--output", "a.jsonl", "--dead-letters", "./a.jsonl"), "name two files"),
        (("in.jsonl", "--output", "no/such/a.jsonl"), "a folder that exists"),
        (("in.jsonl", "--ordered"), "give --output"),
        (("in.jsonl", "--address", "10.0.0.1:6379"), "for --engine ray"),
        (("in.jsonl", "--processes", "0"), "from 1 to 256"),
        (("in.jsonl", "--threads", "0"), "from 1 to"),
    ],
)
def test_what_cannot_begin_is_refused_and_leaves_nothing_behind(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    lines(tmp_path / "in.jsonl", {"prompt": "Be brief."})
    lines(tmp_path / "there.jsonl", {"kept": True})
    (tmp_path / "empty").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    code, _, err = cli("corpus", "compile", *words, "--target", "draft")
    assert (code, said in err) == (2, True), err
    assert {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
    assert not (tmp_path / "store").exists()


def test_a_search_for_a_target_is_not_for_a_corpus(cli: Cli, tmp_path: Path) -> None:
    given = lines(tmp_path / "in.jsonl", {"prompt": "Be brief."})
    settings = tmp_path / "auto.toml"
    settings.write_text('[compile]\ntarget = "auto"\n')
    code, _, err = cli("corpus", "compile", given, "--config", settings)
    assert (code, "not for a corpus" in err) == (2, True)
