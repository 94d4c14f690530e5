"""Everything runs on the device that was asked for; where there is no accelerator, a pretended one.

CUDA and MPS are not here: what this shows is that no tensor is left on the host by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from conftest import tiny
from elsewhere import ELSEWHERE, Pretended, WrongDeviceError, accelerator

from pcompiler.bench import run
from pcompiler.bench.suites import SUITES
from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.device import pick
from pcompiler.dynamics import packs
from pcompiler.model import LanguageModel
from pcompiler.runtime import decode

SOURCE = "You are the desk of a shop. We open at nine. Bells cost 4 euros. Repairs take two days."
SETTINGS = (
    ("kv", {}),
    ("kv", {"factor": 2.0}),
    ("kv", {"factor": 2.0, "bits": 8}),
    ("weights", {"rank": 4}),
    ("weights", {"rank": 4, "refine": 2}),
    ("hybrid", {"factor": 4.0, "rank": 4}),
    ("text", {"rate": 0.5}),
    ("text", {"rate": 0.5, "ranking": "surprise"}),
)
HOST_ONLY = ("storage_performance", "production_simulation")  # have no tensors
SLOW = ("compression_performance", "compilation", "weight_dynamics")  # half a minute and more


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretended]:
    """A machine with an accelerator, so to speak."""
    with accelerator(monkeypatch) as mode:
        yield mode


@pytest.mark.usefixtures("away")
def test_the_pretended_accelerator_refuses_what_a_real_one_does() -> None:
    there, here = torch.ones(2, 2, device=ELSEWHERE), torch.ones(2, 2)
    assert there.device == (there @ there).device == here.to(there).device == ELSEWHERE
    assert here.device == there.cpu().device == (here @ there.cpu()).device == torch.device("cpu")
    assert (there * torch.tensor(2.0)).device == ELSEWHERE  # a single number may be on either
    for mixed in (
        lambda: there @ here,
        lambda: here + there,
        lambda: torch.cat([there, here]),
        lambda: there.gather(1, torch.zeros(2, 2, dtype=torch.long)),
        there.numpy,
    ):
        with pytest.raises(WrongDeviceError):
            mixed()
    assert (there @ there).tolist() == [[2.0, 2.0], [2.0, 2.0]]  # and the numbers are real


@pytest.mark.usefixtures("away")
def test_a_module_moves_there_and_refuses_input_from_the_host() -> None:
    linear = torch.nn.Linear(3, 3).to(ELSEWHERE)
    assert linear(torch.ones(1, 3, device=ELSEWHERE)).device == ELSEWHERE
    with pytest.raises(WrongDeviceError):
        linear(torch.ones(1, 3))


@pytest.mark.parametrize(("target", "settings"), SETTINGS)
def test_each_target_is_compiled_and_attached_on_the_device_and_gives_the_same(
    target: str, settings: dict[str, object], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(model: LanguageModel, name: str) -> tuple[float, float, str]:
        store = replace(config.store, path=f"{config.store.path}-{name}")
        probes = replace(config.probes, self_study=2, fitting=12, answer_tokens=4)
        with Compiler(model=model, config=replace(config, store=store, probes=probes)) as compiler:
            done = compiler.compile(SOURCE, target, **settings)  # type: ignore[arg-type]
            with compiler.session(done) as session:
                return (
                    done.fidelity.kl,
                    done.fidelity.agreement,
                    session.generate("When?", max_tokens=8),
                )

    # As many tokens at once as on the host: a random model's ranks turn on the last bit of a sum.
    monkeypatch.setattr(packs, "DEVICE_PACK_TOKENS", packs.PACK_TOKENS)
    monkeypatch.setattr(decode, "DEVICE_TIMES", 1)
    here = answer(tiny(), "here")
    with accelerator(monkeypatch) as mode:
        model = LanguageModel.from_objects(*_parts(tiny()), pick("auto"), "tiny-llama")
        assert model.device.handle == ELSEWHERE
        before = mode.operations
        there = answer(model, "there")
        assert mode.operations - before > 1_000
    assert there[0] == pytest.approx(here[0], rel=1e-3, abs=1e-5)
    assert there[1:] == here[1:]


@pytest.mark.model
@pytest.mark.parametrize(
    "suite", [pytest.param(s, marks=[pytest.mark.slow] * (s in SLOW)) for s in SUITES]
)
def test_no_suite_leaves_a_tensor_on_the_wrong_device(suite: str, away: Pretended) -> None:
    before = away.operations
    done = run(suite, device="auto", quick=True, rounds=1, threads=1)
    assert done.device == str(ELSEWHERE)
    assert done.figures
    assert away.operations - before > 1_000 or suite in HOST_ONLY


def _parts(model: LanguageModel) -> tuple[object, object]:
    return model.hf, model.tokenizer
