"""Bad input: the right exit code, one line that says what to do, nothing stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tiny

from pcompiler.progress import quiet_transformers

Cli = Callable[..., tuple[int, str, str]]
PROMPT = "You are the desk.\n\nThe workshop opens at nine and closes at five on all days.\n"
TWICE = PROMPT + "\nThe workshop opens at nine and closes at five on all days.\n"


def refused(result: tuple[int, str, str], code: int, *words: str) -> None:
    """One line on standard error, with the words, and the exit code."""
    got, _, err = result
    assert got == code, err
    assert err.startswith("pcompiler: ")
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b" \n\t\n", ["empty"]),
        (b"a\x00b", ["binary"]),
        (b"caf\xe9 au lait", ["UTF-8", "0xe9", "offset 3"]),
        (b"word " * 500, ["tokens", "window of 2048"]),
        (b"<!-- pcompiler:keep -->\nx\n", ["line 1", "never closed"]),
        (b"<!-- pcompiler:end -->\nx\n", ["closes nothing"]),
        (b"<!-- pcompiler:burn -->\nx\n", ["burn", "drop-first"]),
        (b"<!-- pcompiler:keep -->\n<!-- pcompiler:keep -->\n", ["do not nest"]),
        (b'[{"role": "system"}]', ["message 1", "content"]),
        (b'[{"role": "king", "content": "x"}]', ["king", "assistant"]),
        (b'[{"role": "user", "content": "x", "content": "y"}]', ["twice"]),
        (b'[{"role": "user", "content": "\\ud800 x"}]', ["surrogate"]),
    ],
)
def test_a_bad_prompt_is_refused(
    cli: Cli, tmp_path: Path, content: bytes, words: list[str]
) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    refused(cli("compile", path), 2, *words)
    assert json.loads(cli("store", "list", "--json")[1])["artifacts"] == []


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.md"
    path.write_text(PROMPT)
    return path


def test_a_missing_file_and_a_folder_are_refused(cli: Cli, tmp_path: Path) -> None:
    refused(cli("compile", tmp_path / "none.md"), 2, "does not exist")
    refused(cli("compile", tmp_path), 2, "folder")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "no-such"], ["no-such", "smollm2"]),
        (["--device", "cuda:77"], ["cuda:77", "cpu"]),
        (["--device", "tpu"], ["tpu", "cpu"]),
        (["--min-agreement", "1.5"], ["min_agreement"]),
        (["--max-kl", "-1"], ["max_kl"]),
        (["--out", "/no/such/place/a.pca"], ["does not exist"]),
        (["--out", "/"], ["folder"]),
        (["--queries", "/no/such/file"], ["queries"]),
        (["--store", "/proc/pcompiler"], ["store"]),
    ],
)
def test_a_bad_option_is_refused(
    cli: Cli, prompt: Path, options: list[str], words: list[str]
) -> None:
    refused(cli("compile", prompt, *options), 2, *words)


def test_an_unknown_target_is_refused_with_the_known_ones(cli: Cli, prompt: Path) -> None:
    refused(cli("compile", prompt, "--target", "gold"), 2, "gold", "kv", "text", "--help")
    out = cli("compile", prompt, "--target", "gold", "--json")[1]
    assert json.loads(out.strip().splitlines()[-1])["exit_code"] == 2


@pytest.mark.parametrize("rows", ["", '{"query": 3}\n', "hello\n", '{"query": "a"}\n{"q": "b"}\n'])
def test_bad_queries_are_refused_with_their_line(
    cli: Cli, prompt: Path, tmp_path: Path, rows: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(rows)
    line = f"line {len(rows.splitlines())}" if rows else "no queries"
    refused(cli("compile", prompt, "--queries", path), 2, line)


def test_queries_that_are_not_utf8_are_refused_with_their_file(
    cli: Cli, prompt: Path, tmp_path: Path
) -> None:
    path = tmp_path / "latin1.jsonl"
    path.write_bytes('{"query": "Wo ist das Café?"}\n'.encode("latin-1"))
    refused(cli("compile", prompt, "--queries", path), 2, str(path), "utf-8", "0xe9")
    assert json.loads(cli("store", "list", "--json")[1])["artifacts"] == []


def test_a_missed_gate_exits_1_and_stores_nothing(cli: Cli, prompt: Path) -> None:
    prompt.write_text(TWICE)
    refused(
        cli("compile", prompt, "--target", "text", "--max-kl", "0.0000001"), 1, "KL is", "nothing"
    )
    assert json.loads(cli("store", "list", "--json")[1])["artifacts"] == []


def test_with_json_the_error_is_the_last_line(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("compile", tmp_path / "none.md", "--json")
    error = json.loads(out.strip().splitlines()[-1])
    assert (code, error["error"], error["exit_code"]) == (2, "InputError", 2)


def test_an_id_that_is_not_there_is_refused(cli: Cli, prompt: Path) -> None:
    refused(cli("run", "abcdef", "Hi"), 2, "no store")
    artifact = json.loads(cli("compile", prompt, "--json")[1])["artifact"]
    refused(cli("run", "zz", "Hi"), 2, "neither a file")
    refused(cli("run", "f" * 24, "Hi"), 2, "no artifact")
    refused(cli("run", artifact, "  "), 2, "empty")


def test_an_artifact_of_another_model_names_what_differs(
    cli: Cli, prompt: Path, tmp_path: Path
) -> None:
    artifact = json.loads(cli("compile", prompt, "--json")[1])["artifact"]
    other = tiny(seed=1)
    with quiet_transformers():
        other.hf.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    refused(cli("run", artifact, "Hi", "--model", tmp_path / "other"), 2, "weights")
    refused(cli("verify", artifact, "--model", tmp_path / "other"), 2, "weights")


def test_a_truncated_or_flipped_artifact_file_exits_3(
    cli: Cli, prompt: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.pca"
    assert cli("compile", prompt, "--out", path)[0] == 0
    whole = path.read_bytes()
    assert cli("verify", path, "--bytes-only")[0] == 0
    for end in (0, 7, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        refused(cli("verify", path, "--bytes-only"), 3, "not a whole artifact")
    for position in range(0, len(whole), len(whole) // 30):
        flipped = bytearray(whole)
        flipped[position] ^= 16
        path.write_bytes(flipped)
        refused(cli("verify", path, "--bytes-only"), 3)
        refused(cli("run", path, "Hi"), 3)
