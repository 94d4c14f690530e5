"""Stored prompts by meaning, and what is said of a prompt that is nearly compiled already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from test_encoder import tiny_encoder

from pcompiler import nearest
from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.embed import distil, static
from pcompiler.embed.static import Static
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel
from pcompiler.nearest import Prompts
from pcompiler.store.db import Store

DESK = "abc abd abe xyz " * 5
OTHER = "mnop qrst uvw " * 5
CHAT = json.dumps([{"role": "system", "content": OTHER}])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a table in it."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").mkdir()
    distil._write(tiny_encoder(), folder / "models" / static.MADE)
    return folder


@pytest.fixture
def made(
    model: LanguageModel, config: Config, table: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Compiler]:
    monkeypatch.setenv("PCOMPILER_CACHE", str(table))
    with Store(config.store.folder) as store, Compiler(model, store=store, config=config) as c:
        yield c


def test_a_near_duplicate_is_told_with_its_artifact(made: Compiler) -> None:
    assert made.near_duplicate(DESK) is None
    done = made.compile(DESK, queries=["abc?"])
    hit = made.near_duplicate(DESK + "a")
    assert hit is not None
    assert [h.id for h in hit.headers] == [done.id]
    assert nearest.NEAR <= hit.cosine < 1
    assert made.near_duplicate(OTHER) is None
    assert made.near_duplicate(DESK) is None  # itself: it is not a duplicate of anything


def test_another_models_artifact_and_a_deleted_one_are_no_duplicates(made: Compiler) -> None:
    done = made.compile(DESK, queries=["abc?"])
    prompts = nearest.of_static(made.store)
    assert prompts is not None
    card = asdict(made.model.card)
    assert prompts.near_duplicate(DESK + "a", card) is not None
    assert prompts.near_duplicate(DESK + "a", card | {"weights": "others"}) is None
    made.store.delete(done.id)
    assert made.near_duplicate(DESK + "a") is None


def test_a_search_finds_prompts_that_have_no_vector_yet(made: Compiler, table: Path) -> None:
    for source in (DESK, CHAT):
        made.compile(source, queries=["abc?"])
    prompts = Prompts(made.store, Static.read(table / "models" / static.MADE), keep=False)
    first, second = prompts.search("qrst mnop")
    assert made.store.source(first.prompt_hash) == CHAT
    assert first.cosine > second.cosine
    assert len(prompts.search("abc", limit=1)) == 1
    again = Prompts(made.store, tiny_encoder(), keep=True)
    assert len(again.search("abc")) == 2
    assert again.cached.counts.misses == 2
    again.search("xyz")
    assert again.cached.counts.misses == 2
    with pytest.raises(InputError, match="text to search for"):
        prompts.search("  ")


def test_without_a_table_or_with_a_damaged_one_a_compile_goes_on(
    made: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCOMPILER_CACHE", str(tmp_path))
    assert made.compile(DESK, queries=["abc?"]).id
    assert nearest.of_static(made.store) is None
    (tmp_path / "models" / static.MADE).mkdir(parents=True)
    assert nearest.of_static(made.store) is None
    assert made.near_duplicate(DESK + "a") is None


def test_the_command_lists_what_is_near(
    cli: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PCOMPILER_CACHE", str(table))
    code, out, _ = cli("store", "search", "abc")
    assert code == 0
    assert "compile one first" in out
    for name, source in (("desk", DESK), ("other", OTHER)):
        (tmp_path / name).write_text(source)
        assert cli("compile", str(tmp_path / name), "--json")[0] == 0
    code, out, _ = cli("store", "search", "mnop qrst", "--limit", "1", "--json")
    (hit,) = json.loads(out.splitlines()[-1])["hits"]
    assert code == 0
    assert hit["prompt"].startswith("mnop")
    assert "mnop" in cli("store", "search", "uvw")[1]
    assert cli("store", "search", "abc", "--limit", "0")[0] == 2
    assert cli("store", "search", " ")[0] == 2
