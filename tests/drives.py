"""What makes the metrics move, each part of pcompiler in turn, and by how much it has to."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import tiny
from reading import Reading
from test_codec import records
from test_encoder import texts, tiny_encoder
from test_implicit import CONTEXTS, QUERIES
from test_remote import Server
from test_solvers import problem
from test_texts import PROBES, of

from pcompiler import meter
from pcompiler.codec import dictionary, zstd
from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig, StoreConfig
from pcompiler.dynamics.implicit import exact_updates
from pcompiler.dynamics.solvers import SOLVERS, direct, gradient_descent
from pcompiler.embed import distil
from pcompiler.embed.cache import Cached, InMemory
from pcompiler.embed.remote import Remote
from pcompiler.embed.static import Static
from pcompiler.errors import ConfigError, GateMissed, SolveError
from pcompiler.serve.vitals import Vitals
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash
from pcompiler.store.records import Records
from pcompiler.store.seal import SEAL_BYTES
from pcompiler.store.texts import LEVEL

PROMPT = (
    "You are the desk.\n\nThe workshop opens at nine and closes at five. Repairs cost 30 EUR an "
    "hour.\n\nBring the receipt with you when you come.\n\n"
    "Bring the receipt with you when you come.\n"
)
ASKED = ["When?", "What does a repair cost?", "Hello"]


def compiled(reading: Reading, tmp_path: Path) -> None:
    config = Config(store=StoreConfig(path=str(tmp_path / "store")))
    with Compiler(model=tiny(), config=config) as compiler, reading.watching():
        done = compiler.compile(PROMPT, "text", ASKED, rate=0.6, ranking="lexical")
        again = compiler.compile(PROMPT, "text", ASKED, rate=0.6, ranking="lexical")
        with pytest.raises(GateMissed):
            compiler.compile(PROMPT, "text", ASKED, rate=0.2, max_kl=1e-9, protect="none")
        with pytest.raises(ConfigError):
            compiler.compile(PROMPT, "text", ASKED, rate=0.5, section="Nowhere=0.5")
    header = done.header
    change = reading.change
    assert again.cached
    of = {"target": "text"}
    for result in ("compiled", "cached", "missed", "failed"):
        assert change("compile_seconds", "_count", result=result, **of) == 1, result
    took = change("compile_seconds", "_sum", result="compiled", **of)
    assert took == pytest.approx(done.elapsed_s, rel=0.05)
    assert change("prompt_tokens", side="in", **of) == header.context_tokens
    assert change("prompt_tokens", side="out", **of) == header.kept_tokens
    assert change("fidelity_kl", "_count", **of) == 1
    assert change("fidelity_kl", "_sum", **of) == pytest.approx(header.fidelity.kl)
    agreement = change("fidelity_agreement", "_sum", **of)
    assert agreement == pytest.approx(header.fidelity.agreement)
    for stage in ("compile", "measure"):
        spent = change("compile_stage_seconds", "_sum", stage=stage)
        assert spent == pytest.approx(header.timing[f"{stage}_s"])
    # Two were shortened, the one in the store and the one that missed its gate.
    for step in ("normalize", "deduplicate", "protect", "shorten"):
        assert change("pass_seconds", "_count", step=step) >= 2, step
    assert change("pass_seconds", "_count", step="shorten") == 2
    assert change("pass_tokens", side="in") == 2 * header.context_tokens
    assert header.kept_tokens < change("pass_tokens", side="out") < 2 * header.kept_tokens


def fitted(reading: Reading, tmp_path: Path) -> None:
    config = Config(
        probes=ProbeConfig(self_study=3, fitting=18, query_tokens=8, answer_tokens=6),
        store=StoreConfig(path=str(tmp_path / "store")),
    )
    model = tiny()
    with Compiler(model=model, config=config) as compiler, reading.watching():
        done = compiler.compile(PROMPT, "weights", ASKED, rank=4)
    timing = done.header.timing
    for stage in ("probing", "walk", "solving"):
        spent = reading.change("compile_stage_seconds", "_sum", stage=stage)
        assert spent == pytest.approx(timing[f"{stage}_s"])
    solved = sum(reading.change("patched_layers", outcome=o) for o in ("kept", "left_out"))
    assert solved >= model.card.layers  # once for the ranks, and once with them
    assert solved % model.card.layers == 0
    assert reading.change("patch_layer_seconds", "_count") == solved
    assert 0 < reading.change("patch_layer_seconds", "_sum") <= timing["solving_s"]


def solved(reading: Reading, _tmp_path: Path) -> None:
    gram, rhs = problem()
    with reading.watching():
        done = {name: solve(gram, rhs, 0.1) for name, solve in SOLVERS.items()}
        gradient_descent(gram, rhs, 0.1, max_iterations=2)
        gradient_descent(gram, rhs, 0.1, rate=1e3)
        with pytest.raises(SolveError):
            direct(torch.zeros(4, 4), torch.ones(4, 2), 0.0)
    for name in ("direct", "conjugate_gradients"):
        of = {"solver": name}
        assert reading.change("solver_iterations", "_sum", **of) == done[name].iterations
        residual = reading.change("solver_residual", "_sum", **of)
        assert residual == pytest.approx(done[name].residuals[-1])
        assert reading.change("solver_seconds", "_sum", **of) == pytest.approx(done[name].seconds)
        assert reading.change("solver_seconds", "_count", **of) == 1
        assert reading.change("solves", outcome="converged", **of) == 1
    assert reading.change("solves", solver="direct", outcome="failed") == 1
    of = {"solver": "gradient_descent"}
    first = done["gradient_descent"]
    assert reading.change("solves", outcome="diverged", **of) == 1
    assert reading.change("solves", outcome="stopped", **of) == 1 + (first.outcome == "stopped")


def updated(reading: Reading, _tmp_path: Path) -> None:
    model = tiny()
    with reading.watching():
        exact_updates(model, CONTEXTS, QUERIES)
    tokens = sum(map(len, QUERIES))
    assert reading.change("exact_updates") == tokens * model.card.layers
    assert reading.change("exact_updates_seconds", "_count") == 1


def compressed(reading: Reading, tmp_path: Path) -> None:
    data = bytes(10_000) + b"end"
    prompt = records(1, size=400)[0].decode()
    artifact = of(prompt)
    with Store(tmp_path / "s") as store:
        store.add_dictionary(dictionary.train(records(100), 4096, level=LEVEL))
        with reading.watching():
            frame = zstd.compress(data)
            assert zstd.decompress(frame, len(data)) == data
            store.put(artifact, prompt, PROBES)
            assert store.source(content_hash(prompt)) == prompt
        record = store.records.get("prompts", content_hash(prompt).encode())
    assert record is not None
    wanted = {
        ("tensors", "compress"): (len(data), len(frame)),
        ("tensors", "decompress"): (len(frame), len(data)),
        ("texts", "decompress"): (len(record), len(prompt)),
    }
    for (content, operation), (given, made) in wanted.items():
        of_these = {"content": content, "operation": operation}
        assert reading.change("compression_bytes", side="in", **of_these) == given
        assert reading.change("compression_bytes", side="out", **of_these) == made
        assert reading.change("compression_seconds", "_count", **of_these) == 1
        assert reading.change("compression_seconds", "_sum", **of_these) > 0
    texts_in = {"content": "texts", "operation": "compress", "side": "in"}
    assert reading.change("compression_bytes", **texts_in) == len(prompt) + len(PROBES)


def stored(reading: Reading, tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store, reading.watching():
        kept = store.records
        for number in range(100):
            kept.put("names", b"%03d" % number, bytes(10))
        for number in range(130):  # 100 are there
            kept.get("names", b"%03d" % number)
        kept.get_many("names", [b"001", b"nothing", b"002"])
        assert sum(1 for _ in kept.scan("names", b"00")) == 10
        kept.write([("prompts", b"a", bytes(50)), ("names", b"000", None)])
    change, size = reading.change, 10 + SEAL_BYTES
    calls = {"get": 130, "get_many": 1, "put": 100, "write": 1, "scan": 1, "catch_up": 0}
    for operation, count in calls.items():
        assert change("store_operations", operation=operation) == count, operation
        timed = -(-count // 64) if operation in ("get", "put") else count
        assert change("store_seconds", "_count", operation=operation) == timed, operation
    names = {"family": "names"}
    assert change("store_lookups", result="hit", **names) == 102
    assert change("store_lookups", result="miss", **names) == 31
    scanned = 11  # the one after the prefix ends the scan
    assert change("store_records", side="read", **names) == 102 + scanned
    assert change("store_records", side="written", **names) == 101
    assert change("store_bytes", side="read", **names) == (102 + scanned) * size
    assert change("store_bytes", side="written", **names) == 100 * size
    assert change("store_records", side="written", family="prompts") == 1
    assert change("store_bytes", side="written", family="prompts") == 50 + SEAL_BYTES


def followed(reading: Reading, tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put(of("a prompt"), "a prompt", PROBES)
        with Store(tmp_path / "s", "follow") as follower, reading.watching():
            follower.catch_up()
    assert reading.change("store_operations", operation="catch_up") == 1
    assert reading.change("store_seconds", "_count", operation="catch_up") == 1


def kept(reading: Reading, tmp_path: Path) -> None:
    size, count = 2000, 1000
    with Records(tmp_path / "s") as store:
        with reading.watching():
            for number in range(count):
                store.put("prompts", b"%04d" % number, bytes(size))
        assert reading.value("store_keys", family="prompts") == count
        memory = reading.change("rocksdb_memtable_bytes")
        assert memory == pytest.approx(size * count, rel=0.2)
        assert reading.value("disk_free_bytes") > 0
        assert reading.value("rocksdb_block_cache_bytes", state="capacity") > 0
        with reading.watching():
            store.engine.flush()
            for number in range(count):
                store.get("prompts", b"%04d" % number)
        tables = sum(path.stat().st_size for path in (tmp_path / "s").glob("*.sst"))
        assert reading.value("rocksdb_sst_bytes") == tables
        assert reading.change("rocksdb_block_cache_bytes", state="used") > 0
        with reading.watching():
            for number in range(2000):
                store.put("prompts", os.urandom(8), os.urandom(5000))
                if number % 100 == 99:  # more tables than may lie side by side
                    store.engine.handles["prompts"].flush()
        waiting = reading.value("rocksdb_pending_compaction_bytes")
        assert 0 < waiting <= 2 * reading.value("rocksdb_sst_bytes")


def embedded(reading: Reading, _tmp_path: Path) -> None:
    encoder = tiny_encoder()
    static = Static.from_objects(distil.table(encoder, 8), encoder.tokenizer)
    with reading.watching():
        encoder.embed(texts(7))
        encoder.embed_documents(texts(3))
        static.embed_documents(texts(5))
        with Server() as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            Remote(server.url, "tiny").embed(texts(4))
            server.shutdown()
        cached = Cached(static, InMemory())
        cached.embed(["abc", "de", "abc"])
        cached.embed(["abc", "f"])
    for provider, (calls, count) in {
        "encoder": (4, 15),
        "static": (3, 8),
        "remote": (1, 4),
    }.items():
        assert reading.change("embedding_texts", provider=provider) == count
        assert reading.change("embedding_seconds", "_count", provider=provider) == calls
        assert reading.change("embedding_seconds", "_sum", provider=provider) > 0
    assert reading.change("cache_requests", cache="embeddings", result="hit") == 2
    assert reading.change("cache_requests", cache="embeddings", result="miss") == 3


def lively(reading: Reading, _tmp_path: Path) -> None:
    gc.collect()  # or a model of another test goes meanwhile
    vitals = Vitals("library")
    meter.watch(vitals)
    of = {"process": "library"}
    gc.collect()
    for _ in range(3):  # the system may take pages of other tests back meanwhile
        began = time.process_time()
        with reading.watching():
            held = bytearray(64 * 2**20)
            until = time.process_time() + 0.05
            while time.process_time() < until:
                sum(range(1000))
            files = [Path("/dev/null").open() for _ in range(5)]  # noqa: SIM115
        for file in files:
            file.close()
        if reading.change("memory_bytes", **of) > 0.9 * len(held):
            break
        del held
    assert reading.change("memory_bytes", **of) > 0.9 * 64 * 2**20
    assert reading.value("memory_limit_bytes") >= reading.value("memory_bytes", **of)
    assert 0.05 <= reading.change("cpu_seconds", **of) <= time.process_time() - began
    assert reading.value("processes", **of) == 1
    assert reading.value("threads", **of) >= 1
    assert reading.change("open_files", **of) == 5


DRIVES: tuple[Callable[[Reading, Path], None], ...] = (
    *(compiled, fitted, solved, updated, compressed),
    *(stored, followed, kept, embedded, lively),
)
