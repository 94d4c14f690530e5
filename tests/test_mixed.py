"""Products in bfloat16: nearly what the model computes, at no cost to what is measured with it."""

from __future__ import annotations

import gc
import math
from dataclasses import replace

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from test_patch import random_patch

from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.device import Device, pick
from pcompiler.mixed import mixed
from pcompiler.model import LanguageModel
from pcompiler.runtime import packed
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import Prefix, nothing

TEXT = list(b"The workshop opens at nine and closes at five.")
SOURCE = "The desk opens at nine. Saturdays are closed. Zurich takes two days, Rome four."


def logits(model: LanguageModel, prefix: Prefix | None = None) -> torch.Tensor:
    row = PackedRow(model, prefix or nothing(model), 1)
    return row.extend([TEXT], [0], [len(TEXT)]).log_softmax(-1)


def kl(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_model_of_any_family_answers_nearly_alike(family: str, kept: bool) -> None:
    model = tiny(family)
    twin = mixed(model, "bfloat16", kept)
    want, got = logits(model), logits(twin)
    assert got.dtype == torch.float32
    assert not torch.equal(got, want)  # else nothing was rounded
    assert kl(want, got) < 0.02 * kl(want, want.roll(1, 0))  # random models are touchy
    assert torch.equal(logits(model), want)  # the model itself is as it was


def test_only_products_are_rounded() -> None:
    """With numbers that bfloat16 holds exactly, nothing is lost but the last bits of sums."""
    model = tiny()
    linear = model.hf.model.layers[0].mlp.down_proj
    with torch.no_grad():
        for p in model.hf.parameters():
            p.copy_(p.bfloat16())
    twin = mixed(model, "bfloat16").hf.model.layers[0].mlp.down_proj
    x = torch.randn(5, linear.in_features).bfloat16().float()
    torch.testing.assert_close(twin(x), linear(x).bfloat16().float(), rtol=8e-3, atol=1e-6)
    assert twin.weight is linear.weight


def test_a_patch_is_added_to_both_alike() -> None:
    model = tiny()
    prefix = replace(nothing(model), patch=random_patch(model, 1))
    plain, twin = logits(model, prefix), logits(mixed(model, "bfloat16"), prefix)
    assert kl(plain, twin) < 0.1 * kl(plain, logits(model))


def test_who_asks_meanwhile_shares_the_rounded_weights_and_they_go_with_the_last() -> None:
    model = tiny()
    one, other = mixed(model, "bfloat16"), mixed(model, "bfloat16")
    assert one.hf is other.hf
    assert mixed(model, "bfloat16", kept=False).hf is not one.hf
    low = one.hf.lm_head._low
    assert low.dtype == torch.bfloat16
    held = len(gc.get_referrers(low))
    assert held
    del one, other
    gc.collect()
    assert not any(isinstance(r, dict) and "_low" in r for r in gc.get_referrers(low))


@pytest.mark.parametrize("precision", ["auto", "model", "bfloat16"])
def test_only_a_processor_that_multiplies_bfloat16_does_so_unasked(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    for native in (False, True):
        told = {"avx512_bf16": native, "amx_bf16": False}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        taken = mixed(model, precision) is not model
        assert taken == (precision == "bfloat16" or (precision == "auto" and native))


def test_a_model_in_16_bits_stays_as_it_is() -> None:
    source = tiny()
    parts = source.hf.to(torch.bfloat16), source.tokenizer
    model = LanguageModel.from_objects(*parts, pick("cpu", "bfloat16"))
    assert mixed(model, "bfloat16") is model
    assert isinstance(model.device, Device)


def test_a_hybrid_that_is_fitted_so_is_measured_with_the_model_itself(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    measured: set[bool] = set()
    real = packed.batch.run

    def run(of: LanguageModel, parts: list[packed.batch.Part]) -> torch.Tensor:
        measured.add(of.hf is model.hf)
        return real(of, parts)

    monkeypatch.setattr(packed.batch, "run", run)
    found = {}
    for precision in ("model", "bfloat16"):
        probes = replace(config.probes, precision=precision)
        measured.clear()
        with Compiler(model=model, config=replace(config, probes=probes)) as compiler:
            done = compiler.compile(SOURCE, "hybrid", factor=4.0)
        assert measured == ({True} if precision == "model" else {True, False})
        found[precision] = done
    one, other = found.values()
    assert one.id != other.id  # another setting is another artifact
    assert math.isclose(one.fidelity.kl, other.fidelity.kl, rel_tol=0.5, abs_tol=1e-4)


def test_rows_of_two_models_are_never_run_by_one() -> None:
    """Side by side, one prompt's probes may be answered while another's fidelity is measured."""
    model = tiny()
    twin = mixed(model, "bfloat16")
    rows = [PackedRow(of, nothing(of), 1) for of in (model, twin, model)]
    found = packed._extend_together([(row, [TEXT], [0], [len(TEXT)]) for row in rows])
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0].log_softmax(-1), logits(model), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1].log_softmax(-1), logits(twin), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], found[1], rtol=1e-5, atol=1e-5)
