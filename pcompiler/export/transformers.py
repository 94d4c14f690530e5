"""A cache as plain safetensors, with the lines that generate from it without pcompiler.

An exact cache is a ``DynamicCache`` and nothing more. A compacted one has fewer keys than
positions and a bias β for each key and head, and transformers has an argument for neither in
``generate``: one hook puts queries at their true positions, and one for each layer puts β in the
mask. Eager attention is asked for because it always has a mask that can be added to.
"""

from __future__ import annotations

import torch

from pcompiler.export import card, peft
from pcompiler.export.base import Exported, Exporter, Request, to_safetensors
from pcompiler.runtime.patch import Delta
from pcompiler.runtime.prefix import Prefix
from pcompiler.store.artifact import Header

EXACT = (
    "The model's memory of a prompt (its KV cache). Queries go on from it as if the prompt had "
    "been read."
)
COMPACTED = (
    "The model's memory of a prompt (its KV cache), compacted: fewer keys than the prompt has "
    "tokens, each with a bias β on its attention logits."
)
POSITIONS = """\
def at_their_positions(module, args, kwargs):
    start = length - kept + kwargs["past_key_values"].get_seq_length()
    kwargs["position_ids"] = torch.arange(start, start + kwargs["input_ids"].shape[1])[None]
    return args, kwargs
"""
BIASED = """\
def with_beta(beta):  # (heads, 1, kept): all keys of the prompt are seen, each with its bias
    def hook(module, args, kwargs):
        own = kwargs["attention_mask"][..., kept:].expand(-1, len(beta), -1, -1)
        before = beta[None].expand(-1, -1, own.shape[2], -1)
        kwargs["attention_mask"] = torch.cat([before, own], dim=-1)
        return args, kwargs
    return hook
"""
WINDOWED = """\
def with_beta(beta, at, window):  # (heads, 1, kept) biases and positions of the prompt's keys
    def hook(module, args, kwargs):
        own = kwargs["attention_mask"][..., kept:].expand(-1, len(beta), -1, -1)
        now = length + own.shape[3] - own.shape[2] + torch.arange(own.shape[2])[:, None]
        before = beta.expand(-1, own.shape[2], -1)
        if window is not None:  # a sliding window goes by the keys' own positions
            before = before.masked_fill(at <= now - window, torch.finfo(beta.dtype).min)
        kwargs["attention_mask"] = torch.cat([before[None], own], dim=-1)
        return args, kwargs
    return hook
"""


class Transformers(Exporter):
    """cache.safetensors, README.md, and of a hybrid its patch as a LoRA folder."""

    name = "transformers"

    def files(self, request: Request) -> Exported:
        """The cache, and the patch where there is one."""
        header, prefix = request.header, request.prefix()
        deltas = peft.carried(prefix.patch, request.bias)
        notes = _notes(prefix) + (peft.notes_on(deltas, request) if deltas else ())
        what = EXACT if prefix.bias is None else COMPACTED
        code = _code(header, prefix, deltas)
        files = {
            "cache.safetensors": to_safetensors(_tensors(prefix)),
            "README.md": card.readme(header, what, code, notes),
        }
        if deltas:
            adapter = peft.adapter(header, deltas)
            files |= {f"patch/{name}": data for name, data in adapter.items()}
        facts = {"kept": prefix.kept, "length": prefix.length, "compacted": prefix.bias is not None}
        patch = {"patch": peft.facts_of(deltas, request)} if deltas else {}
        return Exported(files, notes, facts | patch)


def _tensors(prefix: Prefix) -> dict[str, torch.Tensor]:
    """keys, values: (L, H_kv, m, d); compacted also bias: (L, H_kv, m), length: (1,)."""
    found = {"keys": prefix.keys, "values": prefix.values}
    if prefix.bias is not None:
        found |= {"bias": prefix.bias, "length": torch.tensor([prefix.length])}
    if prefix.positions is not None:
        found["positions"] = prefix.positions
    return found


def _notes(prefix: Prefix) -> tuple[str, ...]:
    one = "`past()` is a new cache for each query; generating fills it up."
    if prefix.bias is None:
        return (one,)
    return (
        one,
        f"The next token is at position {prefix.length}, after {prefix.kept} keys a head, and "
        "every layer and head has biases of its own: transformers has no argument for that, so "
        "the code hooks into the model. It is for one query at a time (batch size 1) and for "
        "eager attention. Without these hooks the cache is wrong, not just less exact.",
    )


def _code(header: Header, prefix: Prefix, deltas: dict[int, Delta]) -> list[str]:
    hooked = prefix.bias is not None
    eager = ('attn_implementation="eager"',) if hooked else ()
    name = "base" if deltas else "model"
    return [
        "import torch",
        *(["from peft import PeftModel"] if deltas else []),
        "from safetensors.torch import load_file",
        "from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache",
        "",
        *card.loading(header, name, *eager),
        'cache = load_file("cache.safetensors")',
        f'keys, values = cache["keys"].to({name}.dtype), cache["values"].to({name}.dtype)',
        "past = lambda: DynamicCache([(k[None], v[None]) for k, v in zip(keys, values)])",
        "kept = keys.shape[2]",
        *(_hooks(header, prefix, name) if hooked else []),
        *(peft.applying(deltas, "patch") if deltas else []),
        *card.query(header),
        *card.generating("kept + query.shape[1]", "past_key_values=past()"),
    ]


def _hooks(header: Header, prefix: Prefix, model: str) -> list[str]:
    """Lines that put queries at their positions and β into every layer's mask."""
    groups = header.model["heads"] // header.model["kv_heads"]
    windowed = prefix.positions is not None
    per_head = f".repeat_interleave({groups}, dim=1)[:, :, None]"
    hook = "with_beta(beta[i])"
    if windowed:  # Mistral keeps its window in the configuration only
        of = f"{model}.config" if header.model["family"] == "mistral" else "layer.self_attn"
        hook = f"with_beta(beta[i], at[i], {of}.sliding_window)"
    return [
        'length = int(cache["length"])',
        f'beta = cache["bias"].to({model}.dtype){per_head}',
        *([f'at = cache["positions"]{per_head}'] if windowed else []),
        "",
        *POSITIONS.splitlines(),
        "",
        *(WINDOWED if windowed else BIASED).splitlines(),
        "",
        f"{model}.model.register_forward_pre_hook(at_their_positions, with_kwargs=True)",
        f"for i, layer in enumerate({model}.model.layers):",
        f"    layer.self_attn.register_forward_pre_hook({hook}, with_kwargs=True)",
    ]


EXPORTER = Transformers()
