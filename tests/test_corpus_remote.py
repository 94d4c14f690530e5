"""A corpus of a store with a remote: what is there is found, what is compiled goes there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from machines import Machines

from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.model import LanguageModel
from pcompiler.store.db import Store

Cli = Callable[..., tuple[int, str, str]]
PROMPTS = [f"Answer for desk {n}. Refunds above {n}00 EUR need approval." for n in range(3)]
QUERIES = ["Who?", "When is it?"]


def test_what_others_have_pushed_is_found_and_what_is_compiled_is_pushed(
    cli: Cli, machines: Machines, model: LanguageModel, model_folder: Path, tmp_path: Path
) -> None:
    config = Config.load(tmp_path / "tiny.toml")
    elsewhere = replace(config, store=replace(config.store, path=str(tmp_path / "elsewhere")))
    named = replace(model, name=str(model_folder.resolve()))
    with Compiler(named, config=elsewhere, remote=machines.url) as other:
        pushed = other.store.get(other.compile(PROMPTS[0], "kv", QUERIES).id)

    rows = [{"prompt": prompt, "queries": QUERIES} for prompt in PROMPTS]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("corpus", "compile", "in.jsonl", "--target", "kv", "--remote", machines.url)
    code, told, err = cli(*words, "--output", "out.jsonl", "--ordered", "--json")
    summary = json.loads(told.splitlines()[-1])
    assert (code, summary["found"], summary["compiled"]) == (0, 1, 2), err
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["found"] for row in written] == [True, False, False]
    assert written[0]["artifact"] == pushed.header.id

    reader = machines("reader")
    with Store(tmp_path / "store", "read") as mine:
        assert mine.get(pushed.header.id) == pushed  # its times too: it was made there
        for row in written:
            assert reader.get(row["artifact"]) == mine.get(row["artifact"])
    assert list(machines("store").waiting()) == []
