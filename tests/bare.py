"""Artifacts whose bodies are no tensors, for child processes that are not to wait for torch."""

from __future__ import annotations

import hashlib

from pcompiler.codec import zstd
from pcompiler.ir import Fidelity
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.key import content_hash

PROMPT, PROBES = "the prompt é😀", '{"query": "x"}\n'


def artifact(number: int, **changes: object) -> Artifact:
    """A small artifact that can be stored and got; its number is its id."""
    raw = b"body %d" % number * 20
    body = zstd.compress(raw)
    fields: dict[str, object] = {
        "id": f"{number:024x}",
        "target": "kv",
        "model_name": "m",
        "model": {"family": "llama", "dtype": "float32"},
        "config": "c",
        "prompt_hash": content_hash(PROMPT),
        "probes_hash": content_hash(PROBES),
        "probes_from": "queries",
        "answer_limit": 24,
        "context_tokens": 3,
        "kept_tokens": 3,
        "before": "<",
        "after": ">",
        "fidelity": Fidelity(0.1, 0.9, 1.0, 0.5, 10, 2),
        "created": "2026-01-01T00:00:00+00:00",
        "timing": {},
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "tensor_bytes": len(raw),
    }
    return Artifact(Header(**{**fields, **changes}), body)  # type: ignore[arg-type]
