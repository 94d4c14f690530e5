"""The static table: what is distilled, what a text is, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_encoder import ODD, tiny_encoder

from pcompiler import embed
from pcompiler.config import EmbedConfig
from pcompiler.embed import distil, static
from pcompiler.embed.base import Documents
from pcompiler.embed.static import Static
from pcompiler.errors import ConfigError, ModelError, VectorError


@pytest.fixture(scope="module")
def table() -> Static:
    encoder = tiny_encoder()
    return Static.from_objects(distil.table(encoder, 8), encoder.tokenizer)


def test_a_text_is_the_sum_of_its_tokens_whatever_their_order_and_company(table: Static) -> None:
    assert isinstance(table, Documents)
    found = table.embed(["abc", "cab", "a" * 3, "a", ""])
    assert found.shape == (5, table.width)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found[2], found[3], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 1, 1, 0], atol=1e-6)
    ids = [table.tokenizer.token_to_id(letter) for letter in "abc"]
    mean = table.table[ids].mean(0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_odd_texts_are_taken_and_long_ones_read_to_the_end(table: Static) -> None:
    assert table.embed([]).shape == (0, table.width)
    assert np.isfinite(table.embed(ODD)).all()
    megabyte = "ab " * (2**20 // 3)
    np.testing.assert_allclose(table.embed([megabyte]), table.embed(["ab"]), atol=1e-4)
    np.testing.assert_array_equal(table.embed_documents(["abc"]), table.embed(["abc"]))


def test_many_texts_are_as_few_at_a_time(table: Static) -> None:
    every = [chr(97 + i % 26) for i in range(2 * static.CHUNK + 3)]
    np.testing.assert_allclose(
        table.embed(every), table.embed(every[:26])[np.arange(len(every)) % 26], atol=1e-6
    )


def test_a_table_survives_its_folder_and_says_when_it_is_damaged(
    table: Static, tmp_path: Path
) -> None:
    encoder = tiny_encoder()
    distil._write(encoder, tmp_path / "made")
    found = Static.read(tmp_path / "made")
    whole = distil.table(encoder)
    np.testing.assert_array_equal(found.table, whole)
    assert found.fingerprint == Static.from_objects(whole, encoder.tokenizer).fingerprint
    assert found.fingerprint != table.fingerprint
    for name in (static.TABLE, static.WORDS):
        (tmp_path / "made" / name).write_bytes(b"\x08\0\0\0\0\0\0\0{}")
        with pytest.raises(ModelError, match="Delete it"):
            Static.read(tmp_path / "made")


def test_frequent_words_and_marks_weigh_less() -> None:
    encoder = tiny_encoder()
    shares = distil.frequencies(encoder)
    names = encoder.tokenizer.get_vocab()
    assert shares[names["a"]] == shares[names["[SEP]"]] == shares.max()


def test_a_table_with_a_nan_is_refused(table: Static) -> None:
    broken = table.table.copy()
    broken[3, 2] = np.nan
    with pytest.raises(VectorError, match="row 3"):
        Static.from_objects(broken, table.tokenizer)


def test_a_provider_that_is_not_known_lists_those_that_are() -> None:
    with pytest.raises(ConfigError, match="static, encoder, remote"):
        embed.provider(EmbedConfig(provider="oracle"))


def test_the_table_needs_no_torch() -> None:
    code = "import sys; import pcompiler.embed.static; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.model
def test_the_embedded_table_knows_what_is_near() -> None:
    found = Static.load()
    assert found.width == distil.WIDTH
    a, b, c = found.embed(
        ["When do you open?", "What are the shop's opening hours?", "He was born in Paris."]
    )
    assert a @ b > a @ c + 0.2
