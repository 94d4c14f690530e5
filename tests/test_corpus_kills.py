"""A corpus outlives what is killed: the whole command, and an actor of a real Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crews import DEADLY, Recorded, contents

from pcompiler.embed.static import Static
from pcompiler.scale.base import Entry
from pcompiler.scale.local import Local
from pcompiler.store.db import Store

PROMPTS = [f"Answer for desk {n}. Refunds above {n}00 EUR need approval." for n in range(4_000)]
TOLD_FIRST = 200  # prompts, before the kill
PATIENCE_S = 120.0


def lines(path: Path) -> list[str]:
    """Whole lines only: the last one may have been cut short."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.mark.model  # its static table
def test_a_killed_run_goes_on_where_it_was_with_nothing_lost_or_done_twice(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    words = ["corpus", "compile", "in.jsonl", "--target", "draft", "--store", "store"]
    words += ["--processes", "2", "--output", "out.jsonl", "--overwrite", "--json"]
    command = [sys.executable, "-m", "pcompiler", *words]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as first:
        end = time.monotonic() + PATIENCE_S
        while len(lines(tmp_path / "out.jsonl")) < TOLD_FIRST:
            assert first.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
    told = len(lines(tmp_path / "out.jsonl"))
    assert TOLD_FIRST <= told < len(PROMPTS)
    with Store(tmp_path / "store", "read") as store:
        kept = len(list(store.drafts.all()))
    assert kept >= told  # what was told of is there

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["found"], summary["compiled"]) == (kept, len(PROMPTS) - kept)
    assert summary["failed"] == 0
    with Store(tmp_path / "store", "read") as store:
        assert len(list(store.drafts.all())) == len(PROMPTS)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_ray_makes_what_processes_make_and_outlives_a_killed_actor(
    store: Store, table: Static, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    here = Path(__file__).parent  # an actor has to find the recipe's class
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here, here.parent))))
    from pcompiler.scale.ray import Ray

    asked = [*PROMPTS[:20], DEADLY, *PROMPTS[20:60]]
    by_ray = Recorded(store, table, tmp_path / "by-ray")
    with Ray(by_ray, 2) as engine:
        found = list(engine.run(map(Entry, asked)))
    (failed,) = [outcome for outcome in found if outcome.error]
    assert failed.number == 20
    assert sorted(outcome.number for outcome in found) == list(range(61))
    made = by_ray.made()
    # An actor may die with an answer that it has not sent, and that prompt is then taken for it.
    assert 2 <= made[DEADLY] <= 3
    assert set(made) == set(asked)

    with Store(tmp_path / "local") as other:
        by_processes = Recorded(other, table, tmp_path / "by-processes")
        with Local(by_processes, 2) as engine:
            list(engine.run(some(asked)))
        assert contents(other) == contents(store)


def some(asked: list[str]) -> Iterator[Entry]:
    """All but what kills."""
    return (Entry(source) for source in asked if source != DEADLY)
