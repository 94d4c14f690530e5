"""The path on an Apple GPU, as far as it can be proved where there is none; see ``apple.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from apple import MPS, MissingError, kernels, mac, on_mps
from conftest import tiny
from elsewhere import accelerator

from pcompiler import device as devices
from pcompiler import ranges
from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.device import KERNELS, at_home, pick
from pcompiler.dynamics import packs
from pcompiler.dynamics.forecast import descent_steps
from pcompiler.dynamics.implicit import exact_updates
from pcompiler.dynamics.solvers import SOLVERS
from pcompiler.export import TAKES
from pcompiler.export.base import Request, write
from pcompiler.model import LanguageModel
from pcompiler.ops import gram
from pcompiler.runtime import decode
from pcompiler.runtime.batch import BatchRow, Feed, forward
from pcompiler.runtime.prefix import prefill

SOURCE = "You are the desk of a shop. We open at nine. Bells cost 4 euros. Repairs take two days."
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("text", {"rate": 0.5}),
    ("text", {"rate": 0.5, "ranking": "surprise"}),
    ("kv", {}),
    ("kv", {"factor": 2.0, "bits": 8}),
    ("weights", {"rank": 4, "refine": 2}),
    ("hybrid", {"factor": 4.0, "rank": 4}),
    ("hybrid", {"factor": 4.0, "rank": 4, "strength": 0.5, "bits": 8, "budget": "head"}),
)


class Moves:
    """Counts the ranges that say that something was moved to the CPU."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        if name.startswith("on the CPU: "):
            self.count[name.removeprefix("on the CPU: ")] += 1
        yield


def test_torchs_list_says_of_this_builds_kernels_what_its_dispatcher_says() -> None:
    """So it can be believed about the build that is not here."""
    for name in {*KERNELS.values(), "aten::mm", "aten::sort.stable", "aten::linalg_svd"}:
        assert devices.has_kernel(name, "CPU") == ("CPU" in kernels(name.split("::")[1])), name
    assert not any(map(on_mps, ("_linalg_eigh", "linalg_lstsq", "no_such_operator")))
    assert all(map(on_mps, ("linalg_cholesky_ex", "softmax.int", "cholesky_solve")))


def test_the_pretended_mac_refuses_float64_and_what_torch_lacks_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with accelerator(monkeypatch, mac(monkeypatch)):
        x = torch.eye(3, device=MPS)
        for refused in (
            lambda: torch.linalg.eigh(x),
            lambda: torch.linalg.eigvalsh(x),
            lambda: torch.linalg.lstsq(x, x),
            lambda: torch.linalg.svd(x.requires_grad_()),
            lambda: x.double(),
            lambda: x.to("cpu", torch.float64),  # cast there, before it is copied
            lambda: torch.zeros(2, dtype=torch.float64, device=MPS),
        ):
            with pytest.raises(MissingError):
                refused()
        assert float(torch.linalg.eigvalsh(x.detach().cpu().double())[-1]) == 1.0
        assert (x @ x).device == MPS


def test_a_factorisation_that_a_mac_lacks_comes_back_from_the_cpu_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    moves = Moves()
    with accelerator(monkeypatch, mac(monkeypatch)), ranges.recording(moves.open):
        values, vectors = at_home(torch.linalg.eigh, matrix.to(MPS))
        factor = at_home(torch.linalg.cholesky, matrix.to(MPS))
        assert values.device == vectors.device == factor.device == MPS
        assert values.tolist() == pytest.approx([1.0, 3.0])
        assert (factor @ factor.T).tolist() == [pytest.approx(row) for row in matrix.tolist()]
    assert moves.count == {"linalg_eigh": 1}
    with ranges.recording(moves.open):
        at_home(torch.linalg.eigh, matrix)
    assert moves.count == {"linalg_eigh": 1}  # where nothing is lacking, nothing is moved


@pytest.mark.parametrize(
    ("target", "settings", "old"),
    [
        *(
            pytest.param(*one, False, marks=[pytest.mark.slow] * (n % 3 > 0))
            for n, one in enumerate(SETTINGS)
        ),
        pytest.param(*SETTINGS[-1], True, marks=pytest.mark.slow),  # old: as torch 2.6 was there
    ],
)
def test_a_whole_compile_runs_on_a_mac_and_gives_what_the_cpu_gives(
    target: str,
    settings: dict[str, Any],
    old: bool,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Probes, walk, fidelity, store, attach, generate, export."""
    # As many tokens at once as on the CPU: a random model's ranks turn on the last bit of a sum.
    monkeypatch.setattr(packs, "DEVICE_PACK_TOKENS", packs.PACK_TOKENS)
    monkeypatch.setattr(decode, "DEVICE_TIMES", 1)

    def answer(model: LanguageModel, name: str) -> tuple[float, float, str]:
        store = replace(config.store, path=f"{config.store.path}-{name}")
        probes = replace(config.probes, self_study=2, fitting=12, answer_tokens=4)
        with Compiler(model=model, config=replace(config, store=store, probes=probes)) as compiler:
            done = compiler.compile(SOURCE, target, **settings)
            for to in (to for to, takes in TAKES.items() if target in takes):
                half = (target, to) == ("hybrid", "peft")
                if not half or "strength" in settings:  # there is a patch for certain
                    request = Request(compiler.store.get(done.id), SOURCE, patch_only=half)
                    assert write(request, to, tmp_path / f"{name}-{to}").files
            with compiler.session(done) as session:
                return (
                    done.fidelity.kl,
                    done.fidelity.agreement,
                    session.generate("When?", max_tokens=8),
                )

    here = answer(tiny(), "cpu")
    moves = Moves()
    with accelerator(monkeypatch, mac(monkeypatch)) as mode, ranges.recording(moves.open):
        if old:
            monkeypatch.setattr(devices, "has_kernel", lambda _name, _key: False)
        plain = tiny()
        model = LanguageModel.from_objects(plain.hf, plain.tokenizer, pick("auto"), "tiny-llama")
        assert model.device.handle == MPS
        there = answer(model, "mac")
        assert mode.operations > 1_000
    assert there[0] == pytest.approx(here[0], rel=1e-3, abs=1e-5)
    assert there[1:] == here[1:]
    assert set(moves.count) == expected_moves(target, settings, old)


def expected_moves(target: str, settings: dict[str, Any], old: bool) -> set[str]:
    """KL is summed in float64; a patch needs the outputs' directions."""
    cache = target in ("kv", "hybrid") and "factor" in settings
    patch = target in ("weights", "hybrid")
    found = {"float64"} | ({"linalg_eigh"} if patch else set())
    return found | ({"linalg_cholesky", "cholesky_solve"} if old and (cache or patch) else set())


@pytest.mark.parametrize("name", SOLVERS)
def test_each_solver_and_its_check_in_float64_run_on_a_mac(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    u, t = torch.randn(200, 24), torch.randn(200, 8)
    here = SOLVERS[name](gram(u), u.T @ t, 0.1)
    steps = descent_steps(gram(u), u.T @ t, 0.1, [0.01])
    with accelerator(monkeypatch, mac(monkeypatch)):
        u, t = u.to(MPS), t.to(MPS)
        there = SOLVERS[name](gram(u), u.T @ t, 0.1)
        assert there.x.device == MPS
        assert there.residuals[-1] == pytest.approx(here.residuals[-1], rel=0.1, abs=1e-9)
        assert (there.x.cpu() - here.x).norm() < 1e-5 * here.x.norm()
        assert descent_steps(gram(u), u.T @ t, 0.1, [0.01]) == steps


def test_exact_updates_and_batched_decoding_run_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(model: LanguageModel) -> tuple[list[float], torch.Tensor]:
        ids = model.tokenizer.encode(SOURCE, add_special_tokens=False)
        updates = exact_updates(model, [ids[:20], ids[20:50]], [ids[50:60], ids[60:64]])
        prefix = prefill(model, ids)
        rows = [BatchRow(model, prefix), BatchRow(model, prefix)]
        logits = forward(model, [Feed(rows[0], ids[:5]), Feed(rows[1], ids[:3])])
        return [float(u.shift.norm()) for u in updates], logits.cpu()

    sizes, logits = both(tiny())
    with accelerator(monkeypatch, mac(monkeypatch)):
        plain = tiny()
        model = LanguageModel.from_objects(plain.hf, plain.tokenizer, pick("auto"), "tiny-llama")
        there, logits_there = both(model)
    assert there == pytest.approx(sizes, rel=1e-4)
    assert torch.allclose(logits_there, logits, atol=1e-4)
