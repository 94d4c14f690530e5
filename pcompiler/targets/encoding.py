"""A prefix as named tensors, and back: exact or compacted keys and values, a patch, or both."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pcompiler.codec.tensors import from_int8, to_16_bit, to_int8
from pcompiler.errors import DamageError
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.in_place import has_windows
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import Prefix, nothing

CACHE = frozenset({"keys", "values"})
COMPACTED = frozenset({"bias", "length"})  # of a cache with fewer keys than its prompt had
PATCH = frozenset({"patch_a", "patch_b", "patch_bias", "patch_ranks"})


@ranged("encode tensors")
def to_tensors(prefix: Prefix, bits: int = 16, windows: bool = False) -> dict[str, torch.Tensor]:
    """What ``from_tensors`` needs.

    Args:
        prefix: what to write down.
        bits: 16, or 8 with a scale for each group; biases always have 16.
        windows: keep the keys' positions, which only sliding windows ask for.
    """
    found: dict[str, torch.Tensor] = {}
    if prefix.length:
        found |= _rounded({"keys": prefix.keys, "values": prefix.values}, bits)
    if prefix.bias is not None:
        found["bias"] = to_16_bit(prefix.bias)
        found["length"] = torch.tensor([prefix.length], dtype=torch.int32)
    if prefix.positions is not None and windows:
        found["positions"] = prefix.positions.to(torch.int32)
    return found | (_patch_tensors(prefix.patch, bits) if prefix.patch is not None else {})


def _rounded(tensors: Mapping[str, torch.Tensor], bits: int) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if bits == 8:
            found[name], found[f"{name}_scale"] = to_int8(tensor)
        else:
            found[name] = to_16_bit(tensor)
    return found


def _patch_tensors(patch: Patch, bits: int) -> dict[str, torch.Tensor]:
    layers = sorted(patch.deltas)
    deltas = [patch.deltas[i].levelled() for i in layers]
    ranks = [[i, d.rank] for i, d in zip(layers, deltas, strict=True)]
    factors = {
        "patch_a": torch.cat([d.a for d in deltas]),
        "patch_b": torch.cat([d.b.T for d in deltas]),
    }
    return _rounded(factors, bits) | {
        "patch_bias": to_16_bit(torch.stack([d.bias for d in deltas])),
        "patch_ranks": torch.tensor(ranks, dtype=torch.int32),
    }


@ranged("decode tensors")
def from_tensors(
    model: LanguageModel, tensors: Mapping[str, torch.Tensor], halves: frozenset[str]
) -> Prefix:
    """The prefix on the model's device; cast to its dtype when it is put in place.

    Args:
        model: the language model.
        tensors: as ``to_tensors`` made them.
        halves: names of the tensors without which it is not whole.

    Raises:
        DamageError: a tensor is missing, or of another shape than the model's.
    """
    lost = sorted(_needed(model, tensors, halves) - tensors.keys())
    if lost:
        raise DamageError(f"the artifact is not whole: it has no tensor {', '.join(lost)}.")
    device = model.device.handle
    patch = _patch(model, tensors) if tensors.keys() >= PATCH else None
    if not tensors.keys() >= CACHE:
        empty = nothing(model)
        return Prefix(empty.keys, empty.values, 0, patch=patch)
    keys, values = (_dequantised(tensors, name).to(device) for name in ("keys", "values"))
    card = model.card
    want = (card.layers, card.kv_heads, keys.shape[2] if keys.dim() == 4 else 0, card.head_dim)
    _check("keys", keys, want)
    _check("values", values, want)
    bias, positions = tensors.get("bias"), tensors.get("positions")
    if bias is None:
        return Prefix(keys, values, want[2], patch=patch)
    _check("bias", bias, want[:3])
    if positions is not None:
        _check("positions", positions.float(), want[:3])
        positions = positions.to(device)
    length = tensors["length"]
    if length.shape != (1,) or not 0 < int(length) < model.window:
        raise DamageError("the artifact does not say how long its prompt was.")
    return Prefix(keys, values, int(length), bias.float().to(device), positions, patch)


def _needed(
    model: LanguageModel, tensors: Mapping[str, torch.Tensor], halves: frozenset[str]
) -> frozenset[str]:
    """The names that must all be there, since one of their kind is."""
    needed = halves
    if needed & COMPACTED or tensors.keys() & (COMPACTED | {"positions"}):
        needed |= COMPACTED | ({"positions"} if has_windows(model) else set())
    return needed | {f"{n}_scale" for n, t in tensors.items() if t.dtype == torch.int8}


def _dequantised(tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    tensor = tensors[name]
    if tensor.dtype != torch.int8:
        return tensor
    try:
        return from_int8(tensor, tensors[f"{name}_scale"])
    except DamageError as e:
        raise DamageError(f"the artifact's {name} cannot be read: {e}") from None


def _patch(model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Patch:
    ranks = tensors["patch_ranks"]
    if ranks.dim() != 2 or ranks.shape[1] != 2 or ranks.is_floating_point():
        raise DamageError(f"patch_ranks has shape {tuple(ranks.shape)}, not whole (layers, 2).")
    layers, each = ranks[:, 0].tolist(), ranks[:, 1].tolist()
    total = sum(each)
    in_range = all(0 <= i < model.card.layers for i in layers) and min(each, default=0) >= 0
    if not in_range or len(set(layers)) != len(layers):
        raise DamageError(f"the patch is for layers {layers}, of {model.card.layers}.")
    factors = [_dequantised(tensors, name) for name in ("patch_a", "patch_b")]
    _check("patch_a", factors[0], (total, model.card.intermediate))
    _check("patch_b", factors[1], (total, model.card.hidden))
    _check("patch_bias", tensors["patch_bias"], (len(layers), model.card.hidden))
    device = model.device.handle
    a, b = (torch.split(factor.to(device), each) for factor in factors)
    bias = tensors["patch_bias"].to(device)
    return Patch({i: Delta(a[j], b[j].T, bias[j]) for j, i in enumerate(layers)})


def _check(name: str, tensor: torch.Tensor, want: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != want or not tensor.is_floating_point():
        raise DamageError(f"the artifact's {name} have shape {tuple(tensor.shape)}, not {want}.")
