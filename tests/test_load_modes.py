"""Load in all its modes, against a small server; and what a run is told to fall short of."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import serving
from test_load import Answers, tiny

from benches import concurrent_load_test as script
from pcompiler.bench import load_modes
from pcompiler.bench.load_closed import Round
from pcompiler.bench.load_modes import missed, mixed, opened, soak
from pcompiler.bench.load_server import Server, fill

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not here")


@pytest.fixture(scope="module")
def ours(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[script.Ours]:
    folder = tmp_path_factory.mktemp("load")
    paths = fill(folder / "store", str(model_folder))
    (folder / "paths").write_text("\n".join(paths) + "\n")
    server = serving.start(model_folder, folder / "store")
    yield script.Ours(Server(server.url, server.process.pid), paths, folder / "paths", folder)
    server.stop()


def test_the_open_loop_answers_every_look_up(ours: script.Ours) -> None:
    found = opened(ours.server.url, ours.paths, 100, 1.0)
    assert (found["lookups_asked"], found["lookups_success"]) == (100, 1.0)
    assert 0 < found["lookups_p50_ms"] <= found["lookups_p99_ms"] <= found["lookups_max_ms"]
    assert missed(found) == []


def test_one_request_in_twenty_of_the_mixed_load_is_a_chat(ours: script.Ours) -> None:
    found = mixed(ours.server.url, ours.paths, 100, 1.0, 2)
    assert (found["mixed_asked"], found["chats_asked"], found["unmixed_asked"]) == (190, 10, 190)
    assert found["mixed_success"] == found["unmixed_success"] == 1.0
    assert found["chats_success"] > 0
    assert found["chats_failed"] == 0
    assert found["p99_ratio"] == found["mixed_p99_ms"] / found["unmixed_p99_ms"]


def options(**given: Any) -> argparse.Namespace:
    every = {"mixed": False, "rate": None, "minutes": None, "rounds": 1, "workers": 1, "threads": 1}
    return argparse.Namespace(**every | {"connections": 20, "seconds": 1.0} | given)


@needs_wrk
def test_the_closed_loop_asks_both_servers(ours: script.Ours, monkeypatch: Any) -> None:
    monkeypatch.setattr(script, "AFTER_S", 0.0)
    found = script.measure(ours, options(rounds=2))
    assert found["ours_requests_s"] > 0
    assert found["bare_requests_s"] > 0
    assert [len(of) for of in found["rounds"].values()] == [2, 2]
    assert found["success"] == 1.0
    assert missed(found) == []
    assert "share of the bare handler's requests" in script.table(found)


@needs_wrk
def test_a_soak_samples_memory_while_wrk_asks(ours: script.Ours, monkeypatch: Any) -> None:
    monkeypatch.setattr(load_modes, "SAMPLE_S", 0.05)
    found = script.measure(ours, options(minutes=1, seconds=2.0))
    assert found["requests"] > 0
    assert found["success"] == 1.0
    assert len(found["rss_mb"]) >= 10
    assert all(10 < sample < 10_000 for sample in found["rss_mb"])


@dataclass
class Leaky:
    """Load during which this very process grows by so much."""

    megabytes: int
    samples: int = 30

    def __call__(self) -> Round:
        import time

        held = []
        for _ in range(self.samples):
            held.append(b"x" * (self.megabytes * 2**20 // self.samples))
            time.sleep(0.02)
        return Round(1, 1, 1, 1, 1, 0, 1)


@pytest.mark.slow  # what the machine reclaims meanwhile may hide a few megabytes
def test_memory_that_grows_is_no_flat_memory(monkeypatch: Any) -> None:
    monkeypatch.setattr(load_modes, "SAMPLE_S", 0.02)
    (fault,) = missed(soak(os.getpid(), Leaky(60)))
    assert fault.startswith("memory grew by ")


def test_a_server_that_fails_falls_short() -> None:
    with tiny(Answers) as server:
        url = "http://{}:{}".format(*server.address)
        found = opened(url, ["/500"], 100, 0.2)
        assert missed(found) == ["lookups_success is 0.000%; 99.97% are needed."]
        refused = opened(url, ["/429"], 100, 0.2)
        assert missed(refused)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"success": 0.9996}, "99.960%"),
        ({"mixed_success": 0.99, "unmixed_success": 1.0}, "mixed_success"),
        ({"p99_ratio": 3.01}, "a machine that does nothing else"),
        ({"chats_asked": 1_000, "chats_failed": 1}, "1 chats got another answer"),
    ],
)
def test_what_is_below_the_aims_is_told(figures: Mapping[str, Any], words: str) -> None:
    (fault,) = missed(figures)
    assert words in fault


def test_what_is_within_the_aims_is_not() -> None:
    good = {"success": 0.9997, "p99_ratio": 3.0, "flat": True, "chats_asked": 9, "chats_failed": 0}
    assert missed(good | {"chats_success": 0.1, "chats_refused": 8}) == []


@pytest.mark.slow
def test_the_script_serves_measures_and_exits_with_1_where_it_falls_short(
    model_folder: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "figures.json"
    given = ["--rate", "50", "--seconds", "1", "--model", str(model_folder), "--json", str(told)]
    assert script.main(given) == 0
    figures = json.loads(told.read_text())
    assert (figures["lookups_asked"], figures["lookups_success"]) == (50, 1.0)
    assert "lookups_p99_ms" in capsys.readouterr().out
    monkeypatch.setattr(script, "measure", lambda ours, _: opened(ours.server.url, ["/no"], 50, 1))
    assert script.main(given) == 1
    assert "lookups_success is 0.000%" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [["--rate", "0"], ["--minutes", "0.1"], ["--json", "/nowhere/figures.json"]]
)
def test_options_that_cannot_be_are_refused_before_anything_starts(given: list[str]) -> None:
    assert script.main(given) == 2
