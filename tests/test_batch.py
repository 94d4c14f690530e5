"""Rows that share a forward pass answer as each would alone."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_patch import random_patch, thinned
from transformers import DynamicCache

from pcompiler.model import LanguageModel
from pcompiler.runtime.batch import BatchRow, Feed, forward
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import Prefix, nothing, prefill

CONTEXT = list(b"The workshop opens at nine and closes at five, except on Sundays.")
OTHER = list(b"Bicycles are repaired within a week.")


def prefixes(model: LanguageModel) -> dict[str, Prefix]:
    """One of each kind that an artifact can be, as they stand before a query."""
    exact, other = prefill(model, CONTEXT), prefill(model, OTHER)
    compacted = thinned(exact, [3, 20, 50, 60, 64])
    assert compacted.bias is not None
    compacted.bias.copy_(torch.randn(compacted.bias.shape, generator=torch.manual_seed(5)))
    hybrid = thinned(exact, [0, 9, 33, 60], random_patch(model, 1))
    weights = Prefix(nothing(model).keys, nothing(model).values, 0, patch=random_patch(model, 2))
    return {
        "kv": exact,
        "text": other,
        "compacted": compacted,
        "hybrid": hybrid,
        "weights": weights,
        "no prompt": nothing(model),
    }


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
@pytest.mark.parametrize("seed", range(3))
def test_each_row_is_what_it_is_alone_as_rows_join_read_and_leave(family: str, seed: int) -> None:
    model, draw = tiny(family), random.Random(seed)
    kinds = prefixes(model)
    going: dict[str, tuple[BatchRow, PackedRow, DynamicCache]] = {}
    compared = dict.fromkeys(kinds, 0)
    for _ in range(40):
        for name in [n for n in going if draw.random() < 0.15]:
            del going[name]
        for name in [n for n in kinds if n not in going and draw.random() < 0.4]:
            prefix = kinds[name]
            alone = BatchRow(model, prefix, 4), PackedRow(model, prefix, 1), prefix.cache(model)
            going[name] = alone
        chosen = [name for name in going if draw.random() < 0.8]
        draw.shuffle(chosen)
        if not chosen:
            continue
        texts = {
            n: [draw.randrange(2, 258) for _ in range(draw.choice((1, 1, 1, 7, 20)))]
            for n in chosen
        }
        wanted = {n: draw.random() < 0.8 for n in chosen}
        together = forward(model, [Feed(going[n][0], texts[n], wanted[n]) for n in chosen])
        with torch.no_grad():  # by transformers' own pass
            each = [going[n][1].run([texts[n]], [0], [1], going[n][2]).logits for n in chosen]
        expected = [one for n, one in zip(chosen, each, strict=True) if wanted[n]]
        for n in chosen:
            compared[n] += wanted[n]
        assert len(together) == len(expected)
        if expected:
            torch.testing.assert_close(together, torch.cat(expected), rtol=1e-3, atol=1e-3)
    assert min(compared.values()) > 2


def test_rows_differ_by_their_prefix(model: LanguageModel) -> None:
    kinds = prefixes(model)
    query = list(b"When?")
    together = forward(model, [Feed(BatchRow(model, p), query) for p in kinds.values()])
    for i, one in enumerate(together):
        for other in together[i + 1 :]:
            assert not torch.allclose(one, other, rtol=1e-2, atol=1e-2)


def test_a_step_leaves_the_model_and_the_prefix_as_they_were(model: LanguageModel) -> None:
    query, kinds = list(b"When?"), prefixes(model)
    before = PackedRow(model, kinds["kv"], 1).extend([query], [0], [1])
    keys = kinds["kv"].keys.clone()
    implementation = model.hf.config._attn_implementation
    rows = [BatchRow(model, kinds["kv"]), BatchRow(model, kinds["hybrid"])]
    forward(model, [Feed(row, query) for row in rows])
    assert model.hf.config._attn_implementation == implementation
    assert torch.equal(kinds["kv"].keys, keys)
    assert torch.equal(PackedRow(model, kinds["kv"], 1).extend([query], [0], [1]), before)
    with pytest.raises(IndexError):
        forward(model, [Feed(rows[0], [10**6])])
    assert model.hf.config._attn_implementation == implementation
    assert torch.equal(PackedRow(model, kinds["kv"], 1).extend([query], [0], [1]), before)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_what_a_row_has_read_is_the_prefix_of_a_prefill(family: str) -> None:
    model = tiny(family)
    row = BatchRow(model, nothing(model))
    for start in range(0, len(CONTEXT), 20):
        forward(model, [Feed(row, CONTEXT[start : start + 20], wanted=False)])
    read, whole = row.read(), prefill(model, CONTEXT)
    assert read.length == whole.length
    torch.testing.assert_close(read.keys, whole.keys, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read.values, whole.values, rtol=1e-4, atol=1e-4)


def test_the_attention_that_a_model_was_loaded_with_is_the_one_that_rows_use() -> None:
    model = tiny("gemma2", attn_implementation="eager")
    assert model.hf.config._attn_implementation == "eager"  # which has Gemma's soft cap
    prefix = prefill(model, CONTEXT)
    got = forward(model, [Feed(BatchRow(model, prefix), OTHER)])
    want = PackedRow(model, prefix, 1).extend([OTHER], [0], [1])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
