"""The production simulation counts what is stored, and what is not, and its script says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benches import production_simulation
from pcompiler.bench import corpus_command
from pcompiler.bench.corpus_command import ENGINE, LOOP
from pcompiler.bench.simulation import Plan, simulate
from pcompiler.embed.static import Static
from pcompiler.errors import UserError
from pcompiler.store.drafts import Draft, Drafts

PLAN = Plan(prompts=2_000)


def test_all_is_stored_and_known_and_new_are_told_apart(tmp_path: Path, table: Static) -> None:
    result = simulate(PLAN, tmp_path / "s", provider=table)
    assert result.known
    assert result.new
    assert result.new.count == result.redundancy.distinct == result.checked
    assert result.known.count + result.new.count == result.every.count == 2_000
    assert result.known.p50 < result.new.p50
    assert (result.failed, result.failures) == (0, {})
    assert result.distinct_bytes < result.bytes_in
    assert result.stored_bytes > 0
    assert [s.prompts for s in result.memory] == list(range(5, 2_001, 5))
    assert result.growth is not None
    assert set(result.stages) >= {"parse", "passes", "embedding", "codec and store", "found"}


def test_ten_times_the_different_prompts_are_ten_times_as_many_compiles(
    tmp_path: Path, table: Static
) -> None:
    result = simulate(Plan(2_000, distinct_factor=10), tmp_path / "s", provider=table)
    assert result.redundancy.distinct == pytest.approx(1_000, rel=0.1)
    assert result.failed == 0


def test_what_was_acknowledged_and_is_not_there_counts_as_failed(
    tmp_path: Path, table: Static, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Drafts.put

    def forgetful(self: Drafts, draft: Draft, source: str) -> None:
        if int(draft.id, 16) % 10:
            put(self, draft, source)

    monkeypatch.setattr(Drafts, "put", forgetful)
    assert simulate(PLAN, tmp_path / "s", provider=table).failed > 0


def test_prompts_that_cannot_be_compiled_are_counted_by_their_reason(
    tmp_path: Path, table: Static, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcompiler import draft

    real = draft.parse

    def picky(source: str) -> Any:
        if "the" in source[:20]:
            raise OverflowError("picky")
        return real(source)

    monkeypatch.setattr(draft, "parse", picky)
    result = simulate(PLAN, tmp_path / "s", provider=table)
    assert list(result.failures) == ["OverflowError('picky')"]
    assert result.failed == sum(result.failures.values()) > 0


@pytest.mark.model
def test_the_script_runs_alone_prints_its_figures_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "memory.png"
    arguments = ["--prompts", "1000", "--json", "-", "--plot", str(picture)]
    assert production_simulation.main(arguments) == 0
    out = capsys.readouterr().out
    assert "found in the store" in out
    found = json.loads(out.splitlines()[-1])
    assert (found["failed"], found["every"]["count"]) == (0, 1_000)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.model
def test_the_command_is_measured_beside_a_loop_that_stores_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--command", "--prompts", "500", "--processes", "2", "--rounds", "1"]
    assert production_simulation.main([*arguments, "--json", "-"]) == 0
    ways = json.loads(capsys.readouterr().out.splitlines()[-1])["ways"]
    assert ways[0]["of_loop"] == 1.0
    assert [way["way"][:14] for way in ways] == [LOOP[:14], ENGINE[:14], *["corpus compile"] * 2]


@pytest.mark.model
def test_ways_that_do_not_store_the_same_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "Another one."}\n')
    taken = corpus_command._taken

    def elsewhere(command: Sequence[str], given: Path, store: Path) -> tuple[float, float]:
        return taken(command, given if "corpus" in command else other, store)

    monkeypatch.setattr(corpus_command, "_taken", elsewhere)
    with pytest.raises(UserError, match=r"have stored 1, \d\d drafts"):
        corpus_command.compare(Plan(500), tmp_path, rounds=1)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--prompts", "0"),
        ("--distinct-factor", "-1"),
        ("--prompts", "9", "--distinct-factor", "99"),
        ("--data", "/not/there"),
        ("--command", "--plot", "memory.png"),
        ("--command", "--prompts", "1"),
        ("--command", "--rounds", "0"),
        ("--json", "/not/there/x.json"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_work_starts(wrong: tuple[str, ...]) -> None:
    assert production_simulation.main(wrong) == 2
