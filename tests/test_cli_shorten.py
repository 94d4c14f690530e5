"""``pcompiler shorten``: text in, less text out, in the form that it came in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
PROMPT = (
    "# Desk\n\nThe workshop opens at nine and closes at five, except on Sundays. Repairs cost "
    "30 EUR an hour, and you never pay in advance. Bring the receipt with you when you come.\n"
)


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "p.md"
    path.write_text(PROMPT)
    return path


def test_it_prints_the_shorter_prompt_and_tells_the_rest_apart(cli: Cli, prompt: Path) -> None:
    code, out, err = cli("shorten", prompt, "--rate", "0.5")
    assert code == 0
    assert 0 < len(out) < 0.55 * len(PROMPT)
    assert "of 175 tokens" in err
    assert "Not measured" in err


def test_json_has_the_figures(cli: Cli, prompt: Path) -> None:
    code, out, _ = cli("shorten", prompt, "--target-tokens", "90", "--json", "--diff")
    told = json.loads(out.splitlines()[-1])
    assert code == 0
    assert told["kept_tokens"] in (89, 90)
    assert told["rate"] == pytest.approx(told["kept_tokens"] / told["tokens"])
    assert told["fidelity"] is None
    assert "".join(t for sign, t in told["diff"] if sign in " +") == told["text"]


def test_chat_messages_stay_chat_messages(cli: Cli, tmp_path: Path) -> None:
    chat = [{"role": "system", "content": PROMPT}, {"role": "user", "content": "Hello there."}]
    (tmp_path / "c.json").write_text(json.dumps(chat))
    code, out, _ = cli("shorten", "c.json", "--rate", "0.6", "--section", "user")
    found = json.loads(out)
    assert code == 0
    assert [m["role"] for m in found] == ["system", "user"]
    assert found[1]["content"] == "Hello there."


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give --rate"),
        (["--rate", "0"], "above 0 and at most 1"),
        (["--rate", "0.5", "--target-tokens", "5"], "give one of them"),
        (["--rate", "2"], "at most 1"),
        (["--rate", "0.5", "--model", "/no/where"], "no tokenizer.json"),
    ],
)
def test_mistakes_are_told(cli: Cli, prompt: Path, words: list[str], told: str) -> None:
    code, _, err = cli("shorten", prompt, *words)
    assert code == 2
    assert told in err


def test_it_imports_neither_torch_nor_transformers(prompt: Path, model_folder: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pcompiler.cli import main\n"
        f"main(['shorten', {str(prompt)!r}, '--rate', '0.5', '--model', {str(model_folder)!r}])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy imports'"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
