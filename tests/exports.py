"""Artifacts that were not compiled, what our own runtime makes of them, and READMEs at work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from conftest import byte_tokenizer

from pcompiler.codec import tensors, zstd
from pcompiler.ir import Fidelity
from pcompiler.model import LanguageModel
from pcompiler.pipeline import attach
from pcompiler.runtime.decode import greedy, steps
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import Prefix, prefill
from pcompiler.store.artifact import Artifact, Header
from pcompiler.targets.encoding import to_tensors

RunReadme = Callable[[Path], dict[str, Any]]
QUERY = "When do you open?"
BEFORE, AFTER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
PROMPT = "The desk opens at nine. It closes at five, and at noon on Saturdays."
ROUNDING = 5e-6  # relative: our attention of short texts adds up in another order than torch's


def header_for(model: LanguageModel, target: str, body: bytes, size: int) -> Header:
    """A header as the compiler writes it, for tensors that were not compiled."""
    return Header(
        id="0123456789abcdef01234567",
        target=target,
        model_name=model.name,
        model=asdict(model.card),
        config="c",
        prompt_hash="p",
        probes_hash="q",
        probes_from="queries",
        answer_limit=4,
        context_tokens=40,
        kept_tokens=10,
        before=BEFORE,
        after=AFTER,
        fidelity=Fidelity(0.1, 0.9, 1.0, 0.5, 40, 10),
        created="2026-01-01T00:00:00+00:00",
        timing={},
        body_bytes=len(body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        tensor_bytes=size,
    )


def artifact_of(model: LanguageModel, target: str, prefix: Prefix, bits: int = 16) -> Artifact:
    raw = tensors.to_planes(to_tensors(prefix, bits, windows=prefix.positions is not None))
    body = zstd.compress(raw, 1)
    return Artifact(header_for(model, target, body, len(raw)), body)


def random_patch(model: LanguageModel, ranks: dict[int, int], size: float = 0.1) -> Patch:
    card, noise = model.card, torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return size * torch.randn(*shape, generator=noise)

    return Patch(
        {
            i: Delta(draw(r, card.intermediate), draw(card.hidden, r), draw(card.hidden))
            for i, r in ranks.items()
        }
    )


def compacted(model: LanguageModel, patch: Patch | None = None) -> Prefix:
    """Every third key of a prompt, another for each head, with biases of any size."""
    card, noise = model.card, torch.Generator().manual_seed(2)
    exact = prefill(model, model.tokenizer.encode(PROMPT, add_special_tokens=False))
    m, shape = exact.length // 3, (card.layers, card.kv_heads)
    at = torch.rand(*shape, exact.length, generator=noise).topk(m).indices.sort().values
    index = at[..., None].expand(-1, -1, -1, card.head_dim)
    bias = torch.randn(*shape, m, generator=noise)
    bias[0, 0, -2:] = torch.finfo(torch.float16).min  # as in heads that keep fewer
    windows = getattr(model.hf.config, "sliding_window", None)
    return Prefix(
        exact.keys.gather(2, index),
        exact.values.gather(2, index),
        exact.length,
        bias,
        at if windows else None,
        patch,
    )


def query_ids(model: LanguageModel) -> list[int]:
    ids: list[int] = model.tokenizer.encode(BEFORE + QUERY + AFTER, add_special_tokens=False)
    return ids


def ours(model: LanguageModel, artifact: Artifact, ids: list[int]) -> torch.Tensor:
    """(t, V) logits of our own runtime on the stored artifact."""
    row = PackedRow(model, attach(model, artifact), 1)
    return row.extend([ids], [0], [len(ids)])


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def save(model: LanguageModel, folder: Path) -> LanguageModel:
    model.hf.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return replace(model, name=str(folder))


def generated(model: LanguageModel, artifact: Artifact) -> list[int]:
    """64 greedy tokens at most, as the READMEs ask for."""
    prefix = attach(model, artifact)
    return [s.tokens[0] for s in steps(model, prefix, [query_ids(model)], 64, greedy)]


def check_readme(names: dict[str, Any], model: LanguageModel, artifact: Artifact) -> None:
    """Same tokens in, same logits out, and the same answer token by token."""
    query = names["query"]
    assert query[0].tolist() == query_ids(model)
    cache = {"past_key_values": names["past"]()} if "past" in names else {}
    with torch.no_grad():
        theirs = names["model"](input_ids=query, **cache).logits[0].float()
    assert apart(theirs, ours(model, artifact, query[0].tolist())) < ROUNDING
    answer = names["answer"][0, query.shape[1] :].tolist()
    assert answer == generated(model, artifact)
    assert names["printed"].strip() == model.tokenizer.decode(answer, True).strip()
