"""Content addresses: the same inputs have the same name."""

from __future__ import annotations

import hashlib
import json


def content_hash(text: str) -> str:
    """Name of a prompt's source or of a probe list: SHA-256, 32 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def artifact_id(
    target: str, prompt_hash: str, model_fingerprint: str, config_fingerprint: str, probes: str
) -> str:
    """Name of what these inputs compile to: 24 hex digits, known before any work is done."""
    parts = [target, prompt_hash, model_fingerprint, config_fingerprint, probes]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
