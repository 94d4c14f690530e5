"""What stands before a chat: from the store as it is now, and in memory up to so many bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import rocksdict
from chats import PROMPT, WAYS

from pcompiler.compiler import Compiler
from pcompiler.config import Config, StoreConfig
from pcompiler.errors import Gone, NotFoundError
from pcompiler.model import LanguageModel
from pcompiler.serve.prefixes import Prefixes, size_bytes


@pytest.fixture
def compiled(compiler: Compiler) -> Compiler:
    """Three kinds, under their names."""
    for name in ("kv", "compacted", "hybrid"):
        compiler.compile(PROMPT, name=name, **WAYS[name])
    return compiler


def test_prefixes_stay_in_memory_up_to_so_many_bytes(compiled: Compiler) -> None:
    folder = compiled.config.store.folder
    with Prefixes(compiled.model, folder, StoreConfig(), 10**9) as measured:
        sizes = {n: size_bytes(measured.load(n).prefix) for n in ("kv", "compacted", "hybrid")}
    limit = sizes["kv"] + sizes["hybrid"]
    with Prefixes(compiled.model, folder, StoreConfig(), limit) as prefixes:
        kv = prefixes.load("kv").prefix
        prefixes.load("hybrid")
        assert prefixes.load("kv").prefix is kv
        prefixes.load("compacted")  # the hybrid was not asked for longest
        assert prefixes.load("kv").prefix is kv
        assert sum(map(size_bytes, prefixes._kept.values())) <= limit
    with Prefixes(compiled.model, folder, StoreConfig(), 0) as none:
        assert none.load("kv").prefix is not none.load("kv").prefix


def test_an_artifact_is_what_the_store_has_now(model: LanguageModel, config: Config) -> None:
    with (
        Compiler(model=model, config=config) as writer,
        Prefixes(model, config.store.folder, StoreConfig(), 10**9) as prefixes,
    ):
        with pytest.raises((NotFoundError, Gone)):
            prefixes.load("desk")
        first = writer.compile(PROMPT, "kv", name="desk").header
        found = prefixes.load("desk").header
        assert found is not None
        assert found.id == first.id
        second = writer.compile(PROMPT, "kv", bits=8, name="desk").header
        found = prefixes.load("desk").header
        assert found is not None
        assert found.id == second.id
        writer.store.delete(first.id)
        with pytest.raises(NotFoundError):
            prefixes.load(first.id)


def test_there_is_no_store_yet(model: LanguageModel, tmp_path: Path) -> None:
    with Prefixes(model, tmp_path / "none", StoreConfig(), 0) as prefixes:
        with pytest.raises(Gone, match="not there yet"):
            prefixes.load("desk")
        assert prefixes.load(None).header is None


def test_a_store_that_is_being_made_is_not_there_yet_and_is_opened_once_it_is(
    model: LanguageModel, config: Config
) -> None:
    folder = config.store.folder
    folder.mkdir(parents=True)
    rocksdict.Rdict(str(folder), rocksdict.Options(raw_mode=True)).close()  # no families as yet
    with Prefixes(model, folder, StoreConfig(), 0) as prefixes:
        with pytest.raises(Gone, match="not there yet"):
            prefixes.load("desk")
        with Compiler(model=model, config=config) as writer:
            made = writer.compile(PROMPT, "kv", name="desk").header
            assert prefixes.load("desk").header == made


def test_a_store_whose_files_were_replaced_is_opened_anew(
    model: LanguageModel, config: Config, tmp_path: Path
) -> None:
    with (
        Compiler(model=model, config=config) as writer,
        Prefixes(model, config.store.folder, StoreConfig(), 0) as prefixes,
    ):
        first = writer.compile(PROMPT, "kv").header
        assert prefixes.load(first.id).header == first
        writer.close()
        config.store.folder.rename(tmp_path / "elsewhere")
        second = Compiler(model=model, config=config)
        with second:
            again = second.compile(PROMPT, "kv", bits=8, name="desk").header
            found = prefixes.load("desk").header
            assert found is not None
            assert found.id == again.id
