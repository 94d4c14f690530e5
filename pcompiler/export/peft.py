"""A patch as a LoRA folder that ``peft.PeftModel.from_pretrained`` loads.

ΔW = b a is a LoRA of scale 1 (lora_alpha = r) on down_proj. The patch's output bias becomes the
bias of lora_B (``lora_bias``): exact, but down_proj has no bias of its own in these families, so
PEFT warns once that it cannot merge. A rank more cannot carry the bias instead: that would need
an input of down_proj that is the same for every token. What does help is a zero bias in the base
model, which changes nothing and gives a merge something to add to.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from pcompiler.errors import InputError
from pcompiler.export import card
from pcompiler.export.base import Exported, Exporter, Request, to_safetensors
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.store.artifact import Header

MODULE = "model.layers.{}.mlp.down_proj"


class Peft(Exporter):
    """adapter_config.json, adapter_model.safetensors, README.md."""

    name = "peft"

    def files(self, request: Request) -> Exported:
        """The patch. Raises InputError for a hybrid without --patch-only, and an empty patch."""
        header = request.header
        if header.target == "hybrid" and not request.patch_only:
            raise InputError(
                f"artifact {header.id} is a hybrid: its patch alone is not the artifact, and was "
                "solved for the cache beside it. Export it to transformers, which writes both, or "
                "give --patch-only to have half of it."
            )
        deltas = carried(request.prefix().patch, request.bias)
        if not deltas:
            raise InputError(
                f"artifact {header.id} has no patch to export: none was of use on its validation "
                "probes. Compile again with more --fit-queries, or a --strength of your own."
            )
        notes = notes_on(deltas, request)
        code = [
            "import torch",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            *card.loading(header, "base"),
            *applying(deltas, "."),
            *card.query(header),
            *card.generating("query.shape[1]"),
        ]
        what = "A low-rank patch (LoRA) of the model's down_proj that stands in for a prompt."
        files = adapter(header, deltas) | {"README.md": card.readme(header, what, code, notes)}
        return Exported(files, notes, facts_of(deltas, request))


def carried(patch: Patch | None, bias: bool) -> dict[int, Delta]:
    """The deltas that do anything, by layer; without ``bias`` their biases are zero."""
    found: dict[int, Delta] = {}
    for layer, delta in sorted(patch.deltas.items()) if patch else ():
        kept = delta if bias else Delta(delta.a, delta.b, torch.zeros_like(delta.bias))
        if kept.rank or kept.bias.any():
            found[layer] = kept
    return found


def adapter(header: Header, deltas: dict[int, Delta]) -> dict[str, bytes]:
    """PEFT's two files; exact: the numbers are those of the artifact, in their own dtype."""
    tensors: dict[str, torch.Tensor] = {}
    biased = _biased(deltas)
    for layer, delta in deltas.items():
        a, b = delta.a, delta.b
        if not delta.rank:  # PEFT knows no rank 0: one of zeros beside the bias
            a, b = a.new_zeros(1, a.shape[1]), b.new_zeros(b.shape[0], 1)
        name = f"base_model.model.{MODULE.format(layer)}"
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        if biased:
            tensors[f"{name}.lora_B.bias"] = delta.bias
    config = json.dumps(_config(header, deltas), indent=2, sort_keys=True)
    return {
        "adapter_config.json": config.encode(),
        "adapter_model.safetensors": to_safetensors(tensors),
    }


def applying(deltas: dict[int, Delta], folder: str) -> list[str]:
    """Lines that make ``model`` of ``base`` and the adapter in a folder."""
    load = [f"model = PeftModel.from_pretrained(base, {folder!r})"]
    if not _biased(deltas):
        return load
    return [
        f"for i in {list(deltas)}:  # zeros to add the bias to: else PEFT warns, and cannot merge",
        "    zeros = torch.zeros(base.config.hidden_size, dtype=base.dtype)",
        "    base.model.layers[i].mlp.down_proj.bias = torch.nn.Parameter(zeros)",
        *load,
    ]


def notes_on(deltas: dict[int, Delta], request: Request) -> tuple[str, ...]:
    """What a user of the adapter has to know."""
    notes = []
    if request.patch_only:
        notes.append(
            "The patch half of a hybrid. It was solved for the cache beside it, which is not "
            "here: this is not the artifact, and the fidelity measured does not hold for it."
        )
    if _biased(deltas):
        notes.append(
            "The patch has an output bias (lora_bias), which the model's down_proj has not: PEFT "
            "warns of that and does not merge, unless down_proj is given a bias of zeros first, as "
            "in the code. Save the adapter, not the merged model: that would be loaded again "
            "without its bias. Consumers without lora_bias need an export with --no-bias."
        )
    if not request.bias:
        notes.append(
            "The patch's output bias was dropped (--no-bias): PEFT loads and merges this anywhere, "
            "but the fidelity measured is that of the patch with its bias. Without it a patch can "
            "be worse than no prompt at all: measure it before you rely on it."
        )
    if len(set(_ranks(deltas).values())) > 1:
        notes.append(
            "Ranks differ between layers (rank_pattern). For a consumer that wants one rank, such "
            "as a server that stacks adapters, pad lora_A and lora_B with zeros to the largest r."
        )
    return tuple(notes)


def facts_of(deltas: dict[int, Delta], request: Request) -> dict[str, Any]:
    """The same for machines."""
    dropped = not request.bias
    return {
        "ranks": {str(layer): rank for layer, rank in _ranks(deltas).items()},
        "bias": "dropped" if dropped else "lora_bias" if _biased(deltas) else "none",
    }


def _ranks(deltas: dict[int, Delta]) -> dict[int, int]:
    return {layer: max(delta.rank, 1) for layer, delta in deltas.items()}


def _biased(deltas: dict[int, Delta]) -> bool:
    return any(bool(delta.bias.any()) for delta in deltas.values())


def _config(header: Header, deltas: dict[int, Delta]) -> dict[str, Any]:
    ranks = _ranks(deltas)
    r = max(ranks.values())
    others = {MODULE.format(i): rank for i, rank in ranks.items() if rank != r}
    everywhere = len(deltas) == header.model["layers"]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": card.base_of(header),
        "inference_mode": True,
        "target_modules": ["down_proj"],
        "layers_to_transform": None if everywhere else list(deltas),
        "r": r,
        "lora_alpha": r,  # PEFT scales by lora_alpha / r, which is to be 1
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_bias": _biased(deltas),
        "bias": "none",
        "lora_dropout": 0.0,
    }


EXPORTER = Peft()
