"""Sentence encoders by name: the embedded one, a local folder, or a hub id.

A folder as sentence-transformers publishes it says beside the model how its states become one
vector (``1_Pooling``) and how many tokens it reads (``sentence_bert_config.json``); a folder
without these is a plain encoder, whose states are averaged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from pcompiler import progress
from pcompiler.embed.minilm import NAME, WHEEL, WINDOW
from pcompiler.errors import ModelError

MOST = 512  # tokens of another that does not say
# As sentence-transformers names them, in its older settings and in those of version 6.
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean", "mean": "mean",
    "pooling_mode_cls_token": "first", "cls": "first",
}  # fmt: skip
_PARTS = ("Transformer", "Pooling", "Normalize")  # of an encoder; others change its vectors


@dataclass(frozen=True)
class Pretrained:
    """A loaded model and how it is used; see ``Encoder`` for the fields."""

    hf: Any
    tokenizer: Tokenizer
    window: int
    pooling: str


def read(name: str, dtype: torch.dtype) -> Pretrained:
    """The encoder of this name; the embedded one is fetched on first use.

    Raises:
        ModelError: not there, not to be read, no tokenizer.json, or a pooling not known here.
    """
    if name == NAME:
        folder = WHEEL.folder()
        hf, tokenizer = _load(str(folder), dtype, "Delete it to fetch it anew.")
        return Pretrained(hf, tokenizer, WINDOW, "mean")
    source = _resolve(name)
    what = f"Give {NAME!r}, a local folder, or the id of an encoder that the hub can be asked for."
    hf, tokenizer = _load(source, dtype, what)
    pooling = _pooling(source, name)
    told = (_settings(source, "sentence_bert_config.json") or {}).get("max_seq_length")
    places = int(getattr(hf.config, "max_position_embeddings", MOST))
    return Pretrained(hf, tokenizer, min(int(told or MOST), places), pooling)


def _resolve(name: str) -> str:
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return str(folder)
    if name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "~", "/")):
        return name
    raise ModelError(
        f"encoder {name!r} is not known: give {NAME!r} (embedded), a local folder with a "
        "transformers encoder, or a hub id such as sentence-transformers/all-MiniLM-L12-v2."
    )


def _load(source: str, dtype: torch.dtype, instead: str) -> tuple[Any, Tokenizer]:
    from transformers import AutoModel

    more: dict[str, Any] = {}
    try:
        with progress.quiet_transformers():
            tokenizer = Tokenizer.from_file(str(_file(source, "tokenizer.json")))
            if (_settings(source, "config.json") or {}).get("model_type") == "bert":
                more["add_pooling_layer"] = False
            hf = AutoModel.from_pretrained(source, use_safetensors=True, dtype=dtype, **more)
    # tokenizers and safetensors have no better class for a damaged file.
    except Exception as e:
        raise ModelError(f"cannot load {source}: {e}. {instead}") from e
    return hf, tokenizer


def _file(source: str, name: str) -> Path:
    """A file of a local folder, or of a repository on the hub."""
    if Path(source).is_dir():
        return Path(source) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(source, name))


def _settings(source: str, name: str) -> Any:  # noqa: ANN401 - JSON
    """What a JSON file says; None where there is none."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return json.loads(_file(source, name).read_text(encoding="utf-8"))
    except (FileNotFoundError, EntryNotFoundError):
        return None
    except (OSError, ValueError) as e:
        raise ModelError(f"cannot read {name} of {source}: {e}.") from e


def _pooling(source: str, name: str) -> str:
    """How states become a vector; averaged where nothing is said."""
    modules = [str(part.get("type")) for part in _settings(source, "modules.json") or ()]
    foreign = [part for part in modules if part.rpartition(".")[2] not in _PARTS]
    told = dict(_settings(source, "1_Pooling/config.json") or {})
    mode = told.pop("pooling_mode", None)
    modes = (
        {mode}
        if mode
        else {m for m, used in told.items() if m.startswith("pooling_mode_") and used}
    )
    if foreign or not modes <= _POOLINGS.keys() or len(modes) > 1:
        raise ModelError(
            f"encoder {name!r} makes its vectors by {', '.join([*foreign, *sorted(modes)])}; "
            f"pcompiler knows one of: {', '.join(_POOLINGS)}."
        )
    return _POOLINGS[modes.pop()] if modes else "mean"
