"""A key is important by what the stream loses with it, not by attention alone."""

from __future__ import annotations

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_walk import CONTEXT, ROWS

from pcompiler.attention import attend
from pcompiler.dynamics.blocks import Block
from pcompiler.dynamics.capture import Teacher, joined
from pcompiler.dynamics.packs import pack_rows
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import prefill

LAYER = 0
FITTING = [row for row in ROWS if not row.validation]


def advanced(model: LanguageModel) -> Teacher:
    """A teacher that has gone through one layer with the fitting rows."""
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(FITTING))
    teacher.advance(Block(model, LAYER), LAYER)
    return teacher


def attended(teacher: Teacher, block: Block, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A pack's attention: output (H, t, d_head) and weights (H, t, n)."""
    x = teacher.project(block, slice(i, i + 1), teacher.h[i])
    return attend(x.q, teacher.scene(block, i, x, teacher.context(LAYER)))


def one_by_one(model: LanguageModel) -> torch.Tensor:
    """(H_kv, n): each key's part of the output taken away, written through W_o, and measured."""
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(FITTING))
    block, context, card = Block(model, LAYER), teacher.context(LAYER), model.card
    seen = []
    for i in range(len(teacher.packs)):
        output, weights = attended(teacher, block, i)
        r = block.mix(teacher.h[i], block.project_out(joined(output)))
        seen.append((output, weights, r))
    mean = torch.cat([output for output, _, _ in seen], dim=1).mean(1)
    stream = sum(float(r.square().sum()) for _, _, r in seen)
    groups = card.heads // card.kv_heads
    lost = torch.zeros(card.heads, len(CONTEXT))
    for head in range(card.heads):
        for key in range(len(CONTEXT)):
            alone = torch.zeros(card.heads, card.head_dim)
            alone[head] = context.values[head // groups, key] - mean[head]
            written = block.project_out(alone.flatten()[None])
            for _, weights, _ in seen:
                change = weights[head, :, key, None] * written
                lost[head, key] += change.square().sum()
    return (lost / stream).view(card.kv_heads, groups, -1).mean(1).sqrt()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
@torch.no_grad()
def test_importance_is_what_the_stream_loses_without_a_key(family: str) -> None:
    model = tiny(family)
    torch.testing.assert_close(advanced(model).importance, one_by_one(model), rtol=1e-3, atol=1e-7)


@torch.no_grad()
def test_attention_alone_is_the_root_mean_square_of_the_weights() -> None:
    model = tiny("llama")
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(FITTING))
    block = Block(model, LAYER)
    seen = [attended(teacher, block, i)[1] for i in range(len(teacher.packs))]
    squares = torch.cat(seen, dim=1).square().mean(1)
    wanted = squares.view(model.card.kv_heads, -1, len(CONTEXT)).mean(1).sqrt()
    torch.testing.assert_close(advanced(model).attention, wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
@torch.no_grad()
def test_a_head_that_writes_nothing_needs_no_keys(family: str) -> None:
    model = tiny(family)
    card = model.card
    weight = model.hf.model.layers[LAYER].self_attn.o_proj.weight
    groups = card.heads // card.kv_heads
    weight[:, : groups * card.head_dim] = 0  # the heads that share the first keys
    importance = advanced(model).importance
    assert float(importance[0].abs().max()) == 0
    assert float(importance[1].max()) > 0


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
@torch.no_grad()
def test_a_norm_after_the_attention_takes_its_size_from_the_measure(family: str) -> None:
    model = tiny(family)
    before = advanced(model).importance
    model.hf.model.layers[LAYER].self_attn.o_proj.weight *= 100  # the norm takes it out again
    torch.testing.assert_close(advanced(model).importance, before, rtol=1e-3, atol=1e-6)
