"""Self-study: how many queries, about what, in whose manner, and made how often."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import tiny

from pcompiler import self_study
from pcompiler.compiler import Compiler
from pcompiler.config import FITTING, Config, ProbeConfig
from pcompiler.frontend import parse
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.targets import get
from pcompiler.targets.base import Compilation
from pcompiler.targets.weights import FITTING as FOR_WEIGHTS

PROMPT = "The workshop opens at nine and closes at five, except on Sundays. Ask for Mrs Abt."
HELD_OUT = [Probe("When?")]
ASKED = [Probe(f"What about day {i}?") for i in range(6)]


def compilation(count: int | None, asked: list[Probe]) -> Compilation:
    probes = ProbeConfig(fitting=count, query_tokens=12, answer_tokens=4)
    return Compilation(parse(PROMPT), tiny(), Config(probes=probes), HELD_OUT, asked)


def written_alike(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the model writes in the user's manner, call by call."""
    calls: list[list[str]] = []
    original = self_study.more_like

    def noted(*arguments: object) -> list[str]:
        calls.append(original(*arguments))  # type: ignore[arg-type]
        return calls[-1]

    monkeypatch.setattr(self_study, "more_like", noted)
    return calls


def test_of_many_up_to_half_are_in_the_users_manner(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = written_alike(monkeypatch)
    made = compilation(120, ASKED)
    found = [probe.query for probe in made.fitting]
    ((*alike,),) = calls
    assert 0 < len(alike) <= 60
    assert set(alike) <= set(found)
    assert not set(alike) & {probe.query for probe in ASKED}
    assert len(found) > 100  # the rest covers the prompt, and makes up for what was not usable
    assert len(set(found)) == len(found)
    assert found == [probe.query for probe in compilation(120, ASKED).fitting]


@pytest.mark.parametrize(("count", "asked"), [(FITTING, ASKED), (120, [])])
def test_few_cover_the_prompt_first_and_nobodys_manner_is_not_met(
    monkeypatch: pytest.MonkeyPatch, count: int, asked: list[Probe]
) -> None:
    calls = written_alike(monkeypatch)
    _ = compilation(count, asked).fitting
    assert calls == []


def test_long_queries_are_not_shown_past_the_models_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fits behind the prompt by itself; four of them do not."""
    made = compilation(120, [Probe(f"{i} " + "and what about it, " * 30) for i in range(6)])
    assert made.query_ids(made.fit_queries)
    asked = [probe.query for probe in made.fit_queries]
    arguments = (made.model, made.template, made.teacher, asked, 4, 12, 0)
    assert self_study.more_like(*arguments)
    monkeypatch.setattr(LanguageModel, "window", len(made.context) + 700)
    assert self_study.more_like(*arguments) == []


def test_weights_alone_ask_for_more_unless_the_user_says_how_many() -> None:
    given, unsaid = ProbeConfig(fitting=7), ProbeConfig()
    assert [get(name).probes(given).to_fit for name in ("weights", "hybrid", "kv")] == [7, 7, 7]
    assert get("weights").probes(unsaid).to_fit == FOR_WEIGHTS > FITTING
    assert get("hybrid").probes(unsaid).to_fit == get("kv").probes(unsaid).to_fit == FITTING


def test_probes_are_made_once_for_each_number_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Targets and ranks in any order; what is told of an artifact is what it was fitted on."""
    counts: list[int] = []
    original = self_study.fitting

    def noted(*arguments: object, **named: object) -> list[Probe]:
        counts.append(arguments[4].to_fit)  # type: ignore[attr-defined]
        return original(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(self_study, "fitting", noted)
    config = Config(probes=ProbeConfig(query_tokens=6, answer_tokens=4))
    with Compiler(model=tiny(), store=tmp_path / "s", config=config) as compiler:
        for target, rank in (("hybrid", 2), ("weights", 2), ("hybrid", 3), ("weights", 3)):
            done = compiler.compile(PROMPT, target, ["When?"], rank=rank)
            assert done.header.fit["probes"] <= (FOR_WEIGHTS if target == "weights" else FITTING)
            assert (done.header.fit["probes"] > FITTING) == (target == "weights")
    assert counts == [FITTING, FOR_WEIGHTS]
