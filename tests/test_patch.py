"""What is attached to a model and comes off again: patches, key biases, and their hooks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_walk import CONTEXT, TURNS

from pcompiler.model import LanguageModel, hash_weights
from pcompiler.runtime.in_place import in_place
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.patch import Delta, Patch, patched
from pcompiler.runtime.prefix import GONE, Prefix, nothing, prefill

QUERY = list(TURNS[1].encode())


def logits(model: LanguageModel, prefix: Prefix | None = None) -> torch.Tensor:
    row = PackedRow(model, prefix or nothing(model), 1)
    return row.extend([QUERY], [0], [len(QUERY)])


def random_patch(model: LanguageModel, seed: int, layers: tuple[int, ...] = (0, 2)) -> Patch:
    draw, card = torch.Generator().manual_seed(seed), model.card

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw) * 0.2

    return Patch(
        {
            i: Delta(numbers(i + 1, card.intermediate), numbers(card.hidden, i + 1), numbers(32))
            for i in layers
        }
    )


def hooks(model: LanguageModel) -> int:
    modules = list(model.hf.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_patch_is_another_w_down_and_bias(family: str) -> None:
    model, patch = tiny(family), random_patch(tiny(), 1)
    with patched(model, patch):
        got = logits(model)
    changed = tiny(family)
    for i, delta in patch.deltas.items():
        linear = changed.hf.model.layers[i].mlp.down_proj
        linear.weight += delta.b @ delta.a
        linear.bias = torch.nn.Parameter(delta.bias, requires_grad=False)
    assert not torch.allclose(got, logits(model), rtol=1e-2)
    torch.testing.assert_close(got, logits(changed), rtol=1e-3, atol=1e-3)


def test_a_detached_patch_leaves_every_bit_as_it_was(model: LanguageModel) -> None:
    before, weights, hooked = logits(model), hash_weights(model.hf), hooks(model)
    with patched(model, random_patch(model, 1)):
        assert hooks(model) == hooked + 2
        assert not torch.equal(logits(model), before)
        assert hash_weights(model.hf) == weights  # also while it is attached
    assert torch.equal(logits(model), before)
    assert (hash_weights(model.hf), hooks(model)) == (weights, hooked)


def test_no_strength_no_rank_or_no_patch_changes_no_bit(model: LanguageModel) -> None:
    before, card = logits(model), model.card
    empty = Delta(torch.zeros(0, card.intermediate), torch.zeros(32, 0), torch.zeros(32))
    for patch in (random_patch(model, 1).times(0.0), Patch({0: empty}), Patch({}), None):
        with patched(model, patch):
            assert torch.equal(logits(model), before)


def test_patches_stack_and_come_off_in_any_order(model: LanguageModel) -> None:
    one, two = random_patch(model, 1), random_patch(model, 2, layers=(0, 1))
    with patched(model, one):
        alone = logits(model)
        with patched(model, two):
            both = logits(model)
        assert torch.equal(logits(model), alone)
    with patched(model, two), patched(model, one):
        torch.testing.assert_close(logits(model), both, rtol=1e-4, atol=1e-4)
    half = one.times(0.5)
    with patched(model, half), patched(model, half):
        torch.testing.assert_close(logits(model), alone, rtol=1e-4, atol=1e-4)


def test_a_patch_in_another_precision_computes_in_the_models(model: LanguageModel) -> None:
    patch = random_patch(model, 1).to(torch.device("cpu"), torch.float16)
    assert patch.deltas[2].a.dtype is torch.float16
    assert patch.deltas[2].rank == 3
    u = torch.randn(4, model.card.intermediate)
    dense = u @ (patch.deltas[2].b.float() @ patch.deltas[2].a.float()).T
    got = patch.deltas[2](u)
    torch.testing.assert_close(got, dense + patch.deltas[2].bias.float())
    assert got.dtype is torch.float32


def test_an_exception_inside_leaves_no_hook_and_no_change(model: LanguageModel) -> None:
    thin = thinned(prefill(model, CONTEXT), list(range(0, len(CONTEXT), 3)), random_patch(model, 1))
    before, hooked = logits(model), hooks(model)
    with in_place(model, thin, torch.arange(3)):
        assert hooks(model) == hooked + 2 + model.card.layers

    def stop() -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), in_place(model, thin, torch.arange(3)):
        stop()
    assert hooks(model) == hooked
    assert torch.equal(logits(model), before)


def test_a_patch_for_a_layer_that_is_not_there_leaves_no_hook(model: LanguageModel) -> None:
    delta, hooked = random_patch(model, 1).deltas[0], hooks(model)
    with pytest.raises(IndexError), patched(model, Patch({0: delta, 77: delta})):
        pass
    assert hooks(model) == hooked


def test_a_prefix_brings_its_patch_along(model: LanguageModel) -> None:
    patch, exact = random_patch(model, 1), prefill(model, CONTEXT)
    with patched(model, patch):
        want = logits(model, exact)
    assert torch.equal(logits(model, replace(exact, patch=patch)), want)
    assert not torch.allclose(logits(model, exact), want)


def thinned(exact: Prefix, kept: list[int], patch: Patch | None = None) -> Prefix:
    """Some keys, with the β and positions that a compacted cache has."""
    keys, values = exact.keys[:, :, kept], exact.values[:, :, kept]
    at = torch.tensor(kept).expand(*keys.shape[:2], -1)
    return Prefix(keys, values, exact.length, torch.zeros(keys.shape[:3]), at, patch)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_bias_of_ln_2_is_the_key_twice(family: str) -> None:
    model = tiny(family)
    exact, kept = prefill(model, CONTEXT), [3, 20, 50, 60, 64]
    once, twice = thinned(exact, kept), thinned(exact, sorted(kept * 2))
    assert once.bias is not None
    once.bias.fill_(math.log(2))
    torch.testing.assert_close(logits(model, once), logits(model, twice), rtol=1e-4, atol=1e-4)
    once.bias.zero_()
    assert not torch.allclose(logits(model, once), logits(model, twice), rtol=1e-2)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_key_that_is_gone_is_as_if_it_had_never_been(family: str) -> None:
    """Whether the cache leaves it out, where a layer ends, or another head has a key there."""
    model, kept = tiny(family), [3, 20, 50, 60, 64]
    exact = prefill(model, CONTEXT)
    short, long = thinned(exact, kept), thinned(exact, [*kept, 0, 1])
    assert long.bias is not None
    bias = long.bias.clone()
    bias[:, :, -2:] = GONE
    gone = replace(long, bias=bias.clone())
    torch.testing.assert_close(logits(model, gone), logits(model, short), rtol=1e-4, atol=1e-4)
    bias[1, 0, -2] = 0.0  # the first of the two, in one head of one layer
    ragged = replace(long, bias=bias)
    assert (gone.widths, ragged.widths) == ([5, 5, 5], [5, 6, 5])
    assert [layer.keys.shape[-2] for layer in ragged.cache(model).layers] == [5, 6, 5]
    padded = replace(long, bias=bias - 0.0)
    padded.widths[:] = [7, 7, 7]  # as if nothing were left out
    torch.testing.assert_close(logits(model, ragged), logits(model, padded), rtol=1e-4, atol=1e-4)
