"""A corpus through a Ray cluster that runs already; through an address where none does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crews import Recorded, contents

from pcompiler.embed.static import Static
from pcompiler.scale.base import Entry
from pcompiler.store.db import Store

Cli = Callable[..., tuple[int, str, str]]
PROMPTS = [f"Answer for desk {n}. Refunds above {n}00 EUR need approval." for n in range(4)]
CPUS = 3


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster on this machine, whose processes find this checkout."""
    pytest.importorskip("ray")
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here, here.parent))))
    from ray.cluster_utils import Cluster

    import pcompiler.scale.ray  # noqa: F401 - tells Ray to ask no other host

    head = {"num_cpus": CPUS, "include_dashboard": False, "object_store_memory": 2**27}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made.address
    made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_model_on_a_running_cluster_makes_what_processes_make(
    cli: Cli, cluster: str, tmp_path: Path
) -> None:
    import ray

    rows = [{"prompt": prompt, "queries": ["Who?", "When is it?"]} for prompt in PROMPTS[:3]]
    rows.append({"prompt": PROMPTS[3]})  # the model asks by itself
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("corpus", "compile", "in.jsonl", "--target", "kv", "--processes", 2, "--threads", 1)
    for where in (("--engine", "ray", "--address", cluster), ("--store", "local")):
        code, told, err = cli(*words, *where, "--json")
        summary = json.loads(told.splitlines()[-1])
        assert (code, summary["compiled"], summary["failed"]) == (0, 4, 0), err
    with (
        Store(tmp_path / "store", "read") as by_ray,
        Store(tmp_path / "local", "read") as by_processes,
    ):
        made = contents(by_ray)
        assert len(made["tensors"]) == 4
        assert made == contents(by_processes)

    ray.init(address=cluster, log_to_driver=False)  # it outlives who used it
    assert ray.cluster_resources()["CPU"] == CPUS
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_without_an_address_none_is_joined_that_runs_on_this_machine(
    cluster: str, store: Store, table: Static, tmp_path: Path
) -> None:
    import ray

    from pcompiler.scale.ray import Ray

    keeper = Recorded(store, table, tmp_path / "made")
    with Ray(keeper, 1) as engine:
        assert ray.get_runtime_context().gcs_address != cluster
        assert not any(outcome.error for outcome in engine.run(map(Entry, PROMPTS)))
    assert keeper.made() == dict.fromkeys(PROMPTS, 1)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9", "ray://127.0.0.1:9", "[::1]:9", "127.0.0.1:99999", "nothing"]
)
def test_an_address_where_no_cluster_is_is_told_at_once(
    cli: Cli, tmp_path: Path, table: Static, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(Static, "load", lambda: table)
    (tmp_path / "in.jsonl").write_text('{"prompt": "Be brief."}\n')
    words = ("corpus", "compile", "in.jsonl", "--target", "draft", "--engine", "ray")
    began = time.process_time(), time.perf_counter()
    code, _, err = cli(*words, "--address", address)
    waited = time.perf_counter() - began[1] - (time.process_time() - began[0])
    assert (code, f"cannot reach the Ray cluster {address}" in err) == (2, True), err
    assert "as 'ray start --head' tells it" in err
    assert waited < 20  # Ray by itself tries for minutes
