"""Many artifacts: storing them whole, and listing them without reading their tensors."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from pcompiler import progress
from pcompiler.bench import ROOT
from pcompiler.bench.harness import Figure, Setting, spread
from pcompiler.codec import zstd
from pcompiler.config import StoreConfig
from pcompiler.ir import Fidelity
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash

ARTIFACTS, QUICK_ARTIFACTS = 100_000, 2_000
BODY_BYTES = 4_096
OPENING_TOLERANCE = 3.0  # it takes 8 ms after one run's writing and 25 ms after another's
_figure = partial(Figure, "storage_performance")


def listing(setting: Setting, folder: Path) -> list[Figure]:
    """Put artifacts with headers of the usual size, then read all headers."""
    count = QUICK_ARTIFACTS if setting.quick else ARTIFACTS
    source = (ROOT / "examples" / "support_desk.md").read_text(encoding="utf-8")
    body = zstd.compress(source.encode())[:BODY_BYTES]
    header = _header(body, source)
    with Store(folder, settings=StoreConfig()) as store:
        with progress.bar(count, "storing artifacts", "artifact") as shown:
            before = time.perf_counter()
            for number in range(count):
                store.put(Artifact(replace(header, id=f"{number:024x}"), body), source, "")
                shown.update(1)
            put_s = (time.perf_counter() - before) / count
        store.records.engine.compact()
    listed: list[float] = []
    rounds = []
    for _ in setting.repeat.until_steady(listed):
        rounds.append(_read(folder, count))
        listed.append(rounds[-1][1])
    names = (
        f"opening a store of {count} artifacts to read",
        f"listing {count} artifacts",
        "… had their tensors (4 KB each) been read, as well",
    )
    return [
        _figure("artifact put, with prompt and header", put_s, "s", "lower"),
        *(
            _figure(
                name,
                median(taken),
                "s",
                "lower",
                spread=spread(list(taken)),
                samples=taken,
                tolerance=OPENING_TOLERANCE if name.startswith("opening") else None,
            )
            for name, taken in zip(names, zip(*rounds, strict=True), strict=True)
        ),
    ]


def _read(folder: Path, count: int) -> tuple[float, float, float]:
    """Seconds of opening the store, of all its headers and of all its tensors."""
    opening = time.perf_counter()
    with Store(folder, "read") as store:
        headers = time.perf_counter()
        listed = sum(1 for _ in store.headers())
        tensors = time.perf_counter()
        sum(1 for _ in store.records.scan("tensors"))
        end = time.perf_counter()
    assert listed == count, "every artifact is listed"
    return headers - opening, tensors - headers, end - tensors


def _header(body: bytes, source: str) -> Header:
    return Header(
        id="0" * 24,
        target="text",
        model_name="smollm2",
        model={"family": "llama", "dtype": "float32"},
        config="0" * 16,
        prompt_hash=content_hash(source),
        probes_hash=content_hash(""),
        probes_from="queries",
        answer_limit=24,
        context_tokens=1_105,
        kept_tokens=552,
        before="<|im_start|>user\n",
        after="<|im_end|>\n<|im_start|>assistant\n",
        fidelity=Fidelity(0.1, 0.9, 0.5, 0.66, 909, 40),
        created="2026-01-01T00:00:00+00:00",
        timing={},
        body_bytes=len(body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        tensor_bytes=len(body),
    )
