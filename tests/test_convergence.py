"""The convergence study and the figures of exact updates, on a tiny model and on the real one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcompiler.bench import ROOT, convergence, plot, updates
from pcompiler.bench.__main__ import main
from pcompiler.bench.activations import PIECE, SINK, collect, real_text
from pcompiler.bench.convergence import Run, Study
from pcompiler.bench.harness import Setting
from pcompiler.device import pick
from pcompiler.dynamics.solvers import conjugate_gradients, direct
from pcompiler.errors import ConfigError, InputError
from pcompiler.model import LanguageModel
from pcompiler.ops import gram

STUDY = Study(contexts=(128, 256), rates=(0.01, 5.0), ranks=(2, 8), layer=1, max_steps=10)


@pytest.fixture(scope="module")
def runs(model: LanguageModel) -> list[Run]:
    return list(convergence.run(convergence.text_activations(model, STUDY), STUDY))


def of(runs: list[Run], solver: str) -> list[Run]:
    return [run for run in runs if run.solver == solver]


def test_the_study_runs_every_solver_on_every_context(runs: list[Run]) -> None:
    assert len(runs) == STUDY.size
    assert {run.context for run in runs} == {128, 256}
    for run in of(runs, "direct") + of(runs, "conjugate gradients"):
        assert run.converged
        assert run.error <= 1e-4
    slow, fast = of(runs, "gradient descent")[:2]
    assert slow.iterations == 10
    assert slow.needed is not None
    assert slow.needed > 10
    assert fast.diverged
    assert fast.needed is None


def test_fits_get_worse_with_less_rank_and_direct_fits_best(runs: list[Run]) -> None:
    best = of(runs, "direct")[0]
    assert 0 < best.fit <= best.fit_at_rank[8] <= best.fit_at_rank[2] <= 1
    assert all(best.fit <= run.fit + 1e-6 for run in runs if run.context == best.context)


def test_the_fit_is_what_the_truncated_patch_leaves(model: LanguageModel, runs: list[Run]) -> None:
    rows = convergence.text_activations(model, STUDY).first(128)
    u, t = rows.inputs, rows.targets
    x = direct(gram(u), u.T @ t, STUDY.ridge).x
    best = of(runs, "direct")[0]
    assert best.fit == pytest.approx(float((u @ x - t).norm() / t.norm()), rel=1e-4)
    _, s, v = torch.linalg.svd(u @ x)
    top = v[:2].T
    want = float((u @ x @ top @ top.T - t).norm() / t.norm())
    assert best.fit_at_rank[2] == pytest.approx(want, rel=1e-4)
    assert s[0] > 0


def test_runs_are_a_table_and_strict_json(runs: list[Run]) -> None:
    table = convergence.as_table(runs, STUDY)
    assert "diverges" in table
    assert "forecast; ran 10" in table
    data = json.loads(json.dumps(convergence.as_json(runs, STUDY), allow_nan=False))
    assert len(data["runs"]) == STUDY.size
    assert data["study"]["ridge"] == 0.1


def test_rows_are_block_outputs_with_and_without_the_text_before(model: LanguageModel) -> None:
    ids = [i % 200 + 5 for i in range(2 * PIECE)]
    rows = collect(model, ids, layer=1)
    with torch.no_grad():
        whole = model.hf(input_ids=model.tensor(ids), output_hidden_states=True).hidden_states
        piece = model.tensor(ids[PIECE:])
        alone = model.hf(input_ids=piece, output_hidden_states=True).hidden_states
    y_context, y = whole[2][0, PIECE:], alone[2][0]
    want = ((y_context - y) / y_context.norm(dim=1, keepdim=True))[SINK:]
    torch.testing.assert_close(rows.targets[PIECE - SINK :], want, rtol=1e-3, atol=1e-5)
    first = collect(model, ids[:PIECE], layer=1)
    torch.testing.assert_close(rows.first(PIECE).inputs, first.inputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [0, PIECE + 1, 4096])
def test_a_text_that_does_not_fit_is_refused(model: LanguageModel, count: int) -> None:
    with pytest.raises(InputError, match="multiple of 64 up to 2048"):
        collect(model, [5] * count, layer=1)


@pytest.mark.parametrize("k", [1, 3, 4, 17])
def test_the_gram_matrix_is_exactly_symmetric_and_right(k: int) -> None:
    u = torch.randn(50, k, generator=torch.Generator().manual_seed(0))
    got = gram(u)
    assert torch.equal(got, got.T)
    torch.testing.assert_close(got, u.T @ u)


def test_many_contexts_cost_bytes_in_proportion(model: LanguageModel) -> None:
    setting, ids = Setting(pick("cpu"), 1, True), model.tokenizer.encode(real_text()[:500])
    sizes = [updates.many(setting, model, ids, count, 8).factors_bytes for count in (1, 3, 200)]
    assert sizes == [n * model.card.layers * 3 * 32 * 4 for n in (1, 3, 200)]


def test_accuracy_is_rounding_patched_and_poor_without_context(model: LanguageModel) -> None:
    ids = model.tokenizer.encode(real_text()[:200])
    patched, alone = updates.errors(model, ids[:100], ids[100:120])
    assert patched < 1e-5
    assert alone > 0.1


def test_one_layer_is_timed_once_a_round(model: LanguageModel) -> None:
    ids = model.tokenizer.encode(real_text()[:200])
    assert len(updates.one_layer(Setting(pick("cpu"), 2, True), model, ids, 1).wall) == 2


def test_a_plot_without_matplotlib_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pcompiler\[bench\]"):
        plot.check_plot()


def test_a_plot_is_a_picture(runs: list[Run], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.residuals(runs, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_script_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    script = ROOT / "benches" / "weight_convergence_test.py"
    command = [sys.executable, str(script), "--quick", "--json", "/no/such/folder/x.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "does not exist" in done.stderr


@pytest.mark.model
@pytest.mark.parametrize("ridge", [0.01, 0.1, 1.0])
def test_conjugate_gradients_need_at_most_20_steps_on_real_activations(
    smollm2: LanguageModel, ridge: float
) -> None:
    rows = convergence.text_activations(smollm2, Study(contexts=(512,)))
    g, b = gram(rows.inputs), rows.inputs.T @ rows.targets
    done, exact = conjugate_gradients(g, b, ridge), direct(g, b, ridge)
    assert done.converged
    assert done.iterations <= 20
    assert float((done.x - exact.x).norm() / exact.x.norm()) < 0.05


@pytest.mark.model
def test_the_suite_runs_and_meets_what_it_can(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    options = ["--device", "cpu", "--suite", "weight_dynamics", "--quick", "--json", str(path)]
    assert main(options) == 0
    figures = {f["name"]: f for f in json.loads(path.read_text())["figures"]}
    assert all(math.isfinite(f["value"]) for f in figures.values())
    accuracy = figures["accuracy against theory, all layers"]
    assert accuracy["value"] > accuracy["reference"] > accuracy["baseline"]
    factors = figures["exact updates, 100 contexts of 8 tokens, factors"]
    assert factors["value"] < factors["reference"]
    assert figures["conjugate gradients, 512 tokens: steps to 1e-4"]["value"] <= 20
