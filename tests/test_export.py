"""Exporting: messages, what is refused, a folder that is whole or not there, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from exports import PROMPT, QUERY, artifact_of, header_for

from pcompiler import targets
from pcompiler.codec import tensors, zstd
from pcompiler.compiler import Compiler
from pcompiler.errors import ConfigError, InputError, UserError
from pcompiler.export import folder
from pcompiler.export.base import Exported, Request, write
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import prefill
from pcompiler.store.artifact import Artifact

Cli = Callable[..., tuple[int, str, str]]
HOURS = "We open at nine every day."
CHAT = json.dumps(
    [
        {"role": "system", "content": f"You are the desk.\n\n{HOURS}\n\n{HOURS}"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello,   what can I do?"},
    ]
)


def test_messages_are_the_compressed_prompt(compiler: Compiler, tmp_path: Path) -> None:
    artifact = compiler.store.get(compiler.compile(CHAT, target="text").id)
    write(Request(artifact, CHAT), "messages", tmp_path / "out")
    body = json.loads((tmp_path / "out" / "messages.json").read_text())
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant"]
    assert body["messages"][0]["content"].count("nine") == 1
    rendered = compiler.model.tokenizer.apply_chat_template(body["messages"], tokenize=False)
    assert rendered == body["context"]
    assert body["context"] + body["before"] + QUERY + body["after"] == (
        compiler.model.tokenizer.apply_chat_template(
            [*body["messages"], {"role": "user", "content": QUERY}],
            tokenize=False,
            add_generation_prompt=True,
        )
    )


def test_messages_that_are_not_known_are_null_and_the_text_is_there(
    compiler: Compiler, tmp_path: Path
) -> None:
    """As of artifacts from before messages were stored beside the text."""
    text = compiler.store.get(compiler.compile(CHAT, target="text").id).tensors()["text"]
    raw = tensors.to_planes({"text": text})
    body = zstd.compress(raw)
    old = Artifact(header_for(compiler.model, "text", body, len(raw)), body)
    exported = write(Request(old), "messages", tmp_path / "out")
    found = json.loads(exported.files["messages.json"])
    assert (found["messages"], "nine" in found["context"]) == (None, True)
    assert "Compile it again" in exported.notes[0]


def test_wrong_combinations_are_told_what_goes_where(model: LanguageModel, tmp_path: Path) -> None:
    exact = artifact_of(model, "kv", prefill(model, [5, 6, 7]))
    for to in ("peft", "messages"):
        with pytest.raises(InputError, match=r"is a kv.*to transformers.*peft: weights, hybrid"):
            write(Request(exact), to, tmp_path / "out")
    for request, option in (
        (Request(exact, patch_only=True), "--patch-only"),
        (Request(exact, bias=False), "--no-bias"),
    ):
        with pytest.raises(InputError, match=option):
            write(request, "transformers", tmp_path / "out")
    with pytest.raises(ConfigError, match="peft, transformers, messages"):
        write(Request(exact), "gguf", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_every_target_can_be_exported_to_something() -> None:
    from pcompiler.export import EXPORTS, TAKES, get

    assert {t for takes in TAKES.values() for t in takes} == set(targets.TARGETS)
    assert [get(name).name for name in TAKES] == list(EXPORTS)


def export_exact(model: LanguageModel, out: Path) -> Exported:
    artifact = artifact_of(model, "kv", prefill(model, [5, 6, 7]))
    return write(Request(artifact), "transformers", out)


def test_a_folder_with_something_in_it_is_left_alone(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, told in (("full", "not empty"), ("file", "is a file"), ("no/such", "make it")):
        with pytest.raises(InputError, match=told):
            export_exact(model, tmp_path / name)
    assert {p.name for p in tmp_path.rglob("*")} == {"full", "mine", "file"}
    (tmp_path / "empty").mkdir()
    export_exact(model, tmp_path / "empty")
    assert {p.name for p in (tmp_path / "empty").iterdir()} == {"README.md", "cache.safetensors"}


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was left"):
        folder.write(tmp_path / "out", {"a": b"1", "a/b": b"a file is no folder"})
    assert list(tmp_path.iterdir()) == []


def test_the_same_artifact_exports_to_the_same_bytes(model: LanguageModel, tmp_path: Path) -> None:
    assert export_exact(model, tmp_path / "a").files == export_exact(model, tmp_path / "b").files


def test_the_command_writes_the_folder_and_says_what_it_is(cli: Cli, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text(PROMPT)
    ids = {}
    for target in ("kv", "text"):
        code, out, _ = cli("compile", prompt, "--target", target, "--json")
        ids[target] = json.loads(out.splitlines()[-1])["artifact"]
    out_folder = tmp_path / "out"
    arguments = ("--to", "transformers", "--out", out_folder)
    code, out, err = cli("export", ids["kv"][:8], *arguments, "--json")
    told = json.loads(out)
    assert (code, err, told["to"], told["compacted"]) == (0, "", "transformers", False)
    assert told["files"] == {p.name: p.stat().st_size for p in out_folder.iterdir()}
    code, _, err = cli("export", ids["kv"], *arguments)
    assert (code, "not empty" in err) == (2, True)
    code, out, _ = cli("export", ids["text"], "--to", "messages", "--out", tmp_path / "text")
    assert (code, "messages.json" in out) == (0, True)
    assert json.loads((tmp_path / "text" / "messages.json").read_text())["messages"]
    code, _, err = cli("export", ids["text"], "--to", "peft", "--out", tmp_path / "no")
    assert (code, "messages" in err, (tmp_path / "no").exists()) == (2, True, False)
    assert cli("export", ids["text"], "--to", "gguf", "--out", tmp_path / "no")[0] == 2
