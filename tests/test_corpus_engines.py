"""Engines: processes that make and die, each content once, whatever order they end in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from crews import DEADLY, Recorded, timeless

from pcompiler.compiler import Compiler
from pcompiler.config import Config, ModelConfig
from pcompiler.embed.static import Static
from pcompiler.errors import MismatchError, ModelError
from pcompiler.model import LanguageModel
from pcompiler.scale import base
from pcompiler.scale.artifacts import Artifacts
from pcompiler.scale.base import Entry
from pcompiler.scale.corpus import Pass, Sheet
from pcompiler.scale.drafts import Drafts
from pcompiler.scale.entries import open_corpus
from pcompiler.scale.local import Local
from pcompiler.store.artifact import Header
from pcompiler.store.db import Store

Cli = Callable[..., tuple[int, str, str]]
PROMPTS = [f"Answer for desk {n}. Refunds above {n}00 EUR need approval." for n in range(60)]


@pytest.fixture
def keeper(store: Store, table: Static, tmp_path: Path) -> Recorded:
    return Recorded(store, table, tmp_path / "made")


@pytest.fixture
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def killing(engine: Local, at: int, prompts: list[str]) -> Iterator[Entry]:
    for number, prompt in enumerate(prompts):
        if number == at:
            os.kill(engine.pids[0], signal.SIGKILL)
        yield Entry(prompt)


def test_a_killed_worker_costs_one_more_try_of_what_it_was_at(
    store: Store, keeper: Recorded
) -> None:
    with Local(keeper, 2) as engine:
        before = engine.pids
        found = list(engine.run(killing(engine, 20, PROMPTS)))
        assert before[0] not in engine.pids  # its successor may still be loading
    assert sorted(o.number for o in found) == list(range(60))
    assert not any(o.error or o.known for o in found)
    assert len(list(store.drafts.all())) == 60
    made = keeper.made()
    assert set(made) == set(PROMPTS)
    assert sum(made.values()) <= 61


def test_a_prompt_that_ends_its_process_is_tried_twice_and_takes_no_other_with_it(
    store: Store, keeper: Recorded
) -> None:
    asked = [*PROMPTS[:10], DEADLY, *PROMPTS[10:30]]
    with Local(keeper, 1) as engine:
        found = list(engine.run(map(Entry, asked)))
    (failed,) = [o for o in found if o.error]
    assert (failed.number, failed.error) == (10, "2 processes ended while at it: exit code -9.")
    assert keeper.made() == dict.fromkeys(PROMPTS[:30], 1) | {DEADLY: 2}
    assert len(list(store.drafts.all())) == 30


def test_rows_are_written_in_the_inputs_order_though_a_long_prompt_comes_first(
    keeper: Recorded, tmp_path: Path
) -> None:
    rows = [{"prompt": " ".join(PROMPTS) * 200}, *({"prompt": prompt} for prompt in PROMPTS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = {}
    with Local(keeper, 2) as engine:
        for ordered in (False, True):
            with (
                open_corpus(str(tmp_path / "in.jsonl")) as corpus,
                Sheet(tmp_path / f"{ordered}.jsonl") as sheet,
            ):
                assert Pass(engine, corpus, output=sheet, ordered=ordered).run().failed == 0
            text = (tmp_path / f"{ordered}.jsonl").read_text()
            written[ordered] = [json.loads(line)["number"] for line in text.splitlines()]
            keeper.forget_all()
    assert written[True] == sorted(written[False]) == list(range(61))
    assert written[False][0] != 0


def test_none_is_taken_far_ahead_of_one_that_has_not_ended(
    keeper: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcompiler.scale.crew.AHEAD", 10)
    assert base.AHEAD > 10
    asked = [" ".join(PROMPTS) * 200, *PROMPTS, *PROMPTS]
    with Local(keeper, 2) as engine:
        ended: list[int] = []
        most = 0

        def entries() -> Iterator[Entry]:
            nonlocal most
            for number, prompt in enumerate(asked):
                if 0 not in ended:
                    most = number
                yield Entry(prompt)

        ended.extend(o.number for o in engine.run(entries()))
        for outcome in engine.run(map(Entry, asked)):
            assert outcome.known
    assert most <= 10
    assert sorted(ended) == list(range(121))


def test_what_workers_cannot_load_is_told_before_work_starts(
    store: Store, config: Config, tmp_path: Path
) -> None:
    lost = replace(config, model=ModelConfig(str(tmp_path / "no-such-model"), "cpu"))
    with pytest.raises(ModelError, match="is not known"):
        Local(Artifacts(store, lost), 2)


def test_workers_of_another_table_than_the_keepers_are_refused(
    keeper: Recorded, store: Store, table: Static
) -> None:
    other = Static.from_objects(table.table[:, ::-1].copy(), table.tokenizer)
    mixed = Drafts(store, other)
    mixed.recipe = keeper.recipe
    with pytest.raises(MismatchError, match="differs from machine to machine"):
        Local(mixed, 2)


@pytest.mark.usefixtures("own_threads")
def test_a_corpus_compiles_to_what_each_prompt_does_by_itself(
    cli: Cli, tmp_path: Path, model_folder: Path, model: LanguageModel
) -> None:
    rows = [{"prompt": p, "queries": ["Who?", "When is it?"]} for p in PROMPTS[:4]]
    rows += [{"prompt": PROMPTS[4]}, {"prompt": "x " * 3_000}, rows[0]]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("corpus", "compile", "in.jsonl", "--target", "kv", "--processes", 2, "--threads", 1)
    code, told, _ = cli(*words, "--output", "out.jsonl", "--ordered", "--json")
    summary = json.loads(told.splitlines()[-1])
    assert [summary[n] for n in ("prompts", "compiled", "found", "failed")] == [7, 5, 1, 1]
    assert code == 1
    assert "window" in summary["reasons"][0]
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    config = Config.load(tmp_path / "tiny.toml")
    alone = replace(config, store=replace(config.store, path=str(tmp_path / "alone")))
    named = replace(model, name=str(model_folder.resolve()))
    torch.set_num_threads(1)  # as many as the workers have: sums differ by rounding otherwise
    with Store(tmp_path / "store") as store, Compiler(named, config=alone) as compiler:
        for row, given in list(zip(written, rows, strict=True))[:5]:
            done = compiler.compile(str(given["prompt"]), "kv", given.get("queries"))
            mine, theirs = store.get(row["artifact"]), compiler.store.get(done.id)
            assert timeless(mine.header) == timeless(theirs.header)
            assert mine.body == theirs.body
            assert mine.header.timing.keys() == theirs.header.timing.keys()
            assert store.source(mine.header.prompt_hash) == given["prompt"]
            probes = compiler.store.probes(mine.header.probes_hash)
            assert store.probes(mine.header.probes_hash) == probes
        assert len(list(store.headers())) == 5

    gated = (*words, "--min-agreement", 1.0, "--max-kl", 0.0, "--json")
    code, told, _ = cli(*gated)
    summary = json.loads(told.splitlines()[-1])
    assert (code, summary["compiled"]) == (1, 0)
    assert "asked for" in " ".join(summary["reasons"])


@pytest.mark.slow
@pytest.mark.model
def test_a_corpus_of_the_embedded_model_is_compiled_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pcompiler.cli import main

    (tmp_path / "in.jsonl").write_text(
        json.dumps({"prompt": PROMPTS[1], "queries": ["What needs approval?"]}) + "\n"
    )
    words = ["corpus", "compile", str(tmp_path / "in.jsonl"), "--target", "kv", "--device", "cpu"]
    told = []
    for _ in range(2):
        assert main([*words, "--store", str(tmp_path / "s"), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [(t["compiled"], t["found"]) for t in told] == [(1, 0), (0, 1)]
    with Store(tmp_path / "s", "read") as store:
        (header,) = store.headers()
        assert isinstance(header, Header)
        assert header.fidelity.agreement == 1.0
