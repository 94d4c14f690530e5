"""The command line: what it prints, its JSON, its exit codes, its start-up time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pcompiler.cli import parser

Cli = Callable[..., tuple[int, str, str]]
PROMPT = "You are the desk.\n\nThe workshop opens at nine and closes at five on all days.\n"
FIDELITY = {
    *("kl", "agreement", "kl_no_prompt", "agreement_no_prompt", "answer_tokens", "probes"),
    *("kl_uncovered", "agreement_uncovered", "probes_uncovered"),
}
PROMISED = {
    *("target", "artifact", "model", "context_tokens", "kept_tokens", "size_bytes"),
    *("compile_s", "ttft_s", "fidelity"),
}


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.md"
    path.write_text(PROMPT)
    return path


@pytest.fixture
def compiled(cli: Cli, prompt: Path) -> str:
    code, out, _ = cli("compile", prompt, "--json")
    assert code == 0
    return str(last(out)["artifact"])


def last(out: str) -> dict[str, object]:
    value: dict[str, object] = json.loads(out.strip().splitlines()[-1])
    return value


def test_compile_json_has_what_is_promised(cli: Cli, prompt: Path) -> None:
    code, out, err = cli("compile", prompt, "--json")
    summary = last(out)
    assert (code, err) == (0, "")
    assert set(summary) >= PROMISED
    assert isinstance(summary["fidelity"], dict)
    assert set(summary["fidelity"]) == FIDELITY
    assert summary["cached"] is False
    assert float(str(summary["ttft_s"])) > 0
    again = last(cli("compile", prompt, "--json")[1])
    assert again["cached"] is True
    assert {k: again[k] for k in PROMISED} == {k: summary[k] for k in PROMISED}


def test_compile_tells_people_the_bounds_and_the_next_step(cli: Cli, prompt: Path) -> None:
    _, out, _ = cli("compile", prompt)
    for words in ("no prompt", "agreement", "KL", "first token", "pcompiler run"):
        assert words in out
    assert "already compiled" in cli("compile", prompt)[1]


def test_a_file_artifact_runs_and_verifies_without_the_store(
    cli: Cli, prompt: Path, tmp_path: Path
) -> None:
    out_file = tmp_path / "a.pca"
    code, out, _ = cli("compile", prompt, "--out", out_file, "--json")
    assert (code, out_file.stat().st_size) == (0, last(out)["size_bytes"])
    elsewhere = ("--store", tmp_path / "no-such-store")
    code, out, _ = cli("verify", out_file, "--json", *elsewhere)
    assert (code, last(out)["model"], last(out)["fidelity"]) == (0, "ok", "not measured")
    code, out, _ = cli("run", out_file, "Hi", "--max-tokens", 5, "--json", *elsewhere)
    assert code == 0
    code, _, err = cli("run", out_file, "Hi", "--compare", *elsewhere)
    assert (code, "--prompt" in err) == (2, True)
    code, out, _ = cli("run", out_file, "Hi", "--compare", "--prompt", prompt, *elsewhere)
    assert code == 0
    prompt.write_text("Another prompt.")
    code, _, err = cli("run", out_file, "Hi", "--compare", "--prompt", prompt, *elsewhere)
    assert (code, "not the prompt" in err) == (2, True)


def test_run_answers_as_the_full_prompt_does(cli: Cli, compiled: str) -> None:
    arguments = ("run", compiled[:8], "When do you open?", "--max-tokens", 12)
    code, out, _ = cli(*arguments, "--compare", "--json")
    answers = last(out)
    assert code == 0
    assert answers["artifact"]["text"] == answers["full_prompt"]["text"]  # type: ignore[index]
    assert answers["artifact"]["ttft_s"] > 0  # type: ignore[index]
    plain = cli(*arguments)[1]
    assert plain.rstrip("\n") == str(answers["artifact"]["text"]).rstrip("\n")  # type: ignore[index]
    table = cli(*arguments, "--compare")[1]
    assert "full prompt" in table
    assert table.count("first token after") == 2


def test_verify_measures_again_what_the_header_says(cli: Cli, compiled: str) -> None:
    code, out, _ = cli("verify", compiled, "--json")
    fidelity = last(out)["fidelity"]
    assert code == 0
    assert fidelity["measured"] == fidelity["recorded"]  # type: ignore[index, call-overload]


def test_verify_measures_as_the_artifact_was_measured(
    cli: Cli, compiled: str, tmp_path: Path
) -> None:
    """Under other settings than those it was compiled with: here, longer answers."""
    settings = tmp_path / "tiny.toml"
    settings.write_text(settings.read_text().replace("answer_tokens = 4", "answer_tokens = 9"))
    code, out, err = cli("verify", compiled, "--json")
    assert code == 0, err
    fidelity = last(out)["fidelity"]
    assert fidelity["measured"] == fidelity["recorded"]  # type: ignore[index, call-overload]


def test_the_store_commands_agree_with_each_other(cli: Cli, compiled: str, prompt: Path) -> None:
    text = str(last(cli("compile", prompt, "--target", "text", "--json")[1])["artifact"])
    listed = last(cli("store", "list", "--json")[1])["artifacts"]
    assert {a["artifact"] for a in listed} == {compiled, text}  # type: ignore[attr-defined]
    shown = last(cli("store", "show", compiled, "--json")[1])
    assert (shown["id"], shown["target"]) == (compiled, "kv")
    assert cli("store", "show", compiled, "--prompt")[1] == PROMPT + "\n"
    assert "workshop" in cli("store", "show", text, "--text")[1]
    assert cli("store", "show", compiled, "--text")[0] == 2
    stats = last(cli("store", "stats", "--json")[1])
    assert (stats["artifacts"], stats["prompts"]) == (2, 1)
    assert cli("store", "delete", text, "--json")[0] == 0
    assert last(cli("store", "stats", "--json")[1])["artifacts"] == 1
    for table in (cli("store", "list")[1], cli("store", "show", compiled)[1]):
        assert compiled in table
    assert "1 artifacts" in cli("store", "stats")[1]


def test_an_empty_store_is_not_an_error(cli: Cli) -> None:
    assert cli("store", "list")[0] == 0
    assert last(cli("store", "list", "--json")[1])["artifacts"] == []


def test_options_go_before_the_configuration_file(cli: Cli, prompt: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert cli("compile", prompt, "--store", other)[0] == 0
    assert (other / "CURRENT").exists()
    assert not (tmp_path / "store").exists()


def test_standard_input_is_a_prompt_too(model_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pcompiler", "compile", "-", "--json", "--device", "cpu"),
            *("--model", str(model_folder), "--store", str(tmp_path / "s")),
        ],
        input=PROMPT.encode(),
        capture_output=True,
        check=True,
    )
    assert last(done.stdout.decode())["target"] == "kv"
    assert done.stderr == b""  # no bars, no warnings when piped


def test_models_names_the_embedded_one_and_the_families(capsys: pytest.CaptureFixture[str]) -> None:
    from pcompiler.cli import main

    assert main(["models", "--json"]) == 0
    result = last(capsys.readouterr().out)
    assert result["embedded"]["name"] == "smollm2"  # type: ignore[index]
    assert "gemma2" in result["families"]  # type: ignore[operator]


def test_help_is_fast_and_imports_no_torch() -> None:
    code = (
        "import sys, pcompiler, pcompiler.cli\n"
        "try: pcompiler.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'numpy', 'rocksdict'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pcompiler", "--help"], check=True, capture_output=True
        )
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [["compile"], ["run"], ["verify"], ["export"], ["models"], ["bench"]]
    commands += [["store", name] for name in ("list", "show", "delete", "stats")]
    commands += [["corpus"], ["corpus", "compile"]]
    commands += [["store", "dictionary", name] for name in ("train", "list")]
    for words in commands:
        with pytest.raises(SystemExit) as e:
            parser().parse_args([*words, "--help"])
        assert e.value.code == 0
        assert f"pcompiler {' '.join(words)}" in capsys.readouterr().out.split("example:")[1]
