"""NVIDIA's kvpress on one context: how far its compressed caches are from the full one.

A script for kvpress's own environment (see README.md beside it); it imports nothing of
pcompiler. The job is JSON:

    {"context": [ids], "queries": [[ids], ...], "answers": [[ids], ...],
     "presses": [{"name": "snapkv", "factor": 10.0, "options": {"window_size": 32}}, ...]}

A press sees the context alone, never a query. Queries go on at the context's logical length, and
the given answers are scored. The result is a JSON list of rows: ``press``, ``factor``, ``kl``
(nats per answer token, from this environment's own full-context run), ``agreement`` (same argmax,
0..1), ``answer_tokens``, ``kept_tokens`` (mean over layers and heads), ``kept_bytes`` (their keys
and values in float32) and ``seconds`` (prefill and press). In the first row, "full", agreement is
with the given answers: 1 if they are greedy and both environments compute alike.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import kvpress
import torch
from transformers import AutoModelForCausalLM, DynamicCache

Row = dict[str, Any]

PRESSES = {
    "snapkv": kvpress.SnapKVPress,
    "expected_attention": kvpress.ExpectedAttentionPress,
    "knorm": kvpress.KnormPress,
    "tova": kvpress.TOVAPress,
    "kvzip": kvpress.KVzipPress,
}


def run(model: Any, job: Row) -> list[Row]:  # noqa: ANN401 - untyped transformers
    """Score the full context, then every press of the job."""
    context, texts = job["context"], list(zip(job["queries"], job["answers"], strict=True))
    cache, seconds = _prefill(model, context)
    teacher = list(_score(model, cache, len(context), texts))
    given = [torch.tensor(answer) for answer in job["answers"]]
    same = sum(int((p.argmax(-1) == a).sum()) for p, a in zip(teacher, given, strict=True))
    tokens = sum(map(len, job["answers"]))
    rows = [_row("full", 1.0, 0.0, same, tokens) | _size(cache, None) | {"seconds": seconds}]
    for spec in job["presses"]:
        press = PRESSES[spec["name"]](1 - 1 / spec["factor"], **spec.get("options", {}))
        cache, seconds = _prefill(model, context, press)
        evicted = _take_evicted(model, len(context))
        with _hidden(model, evicted):
            student = _score(model, cache, len(context), texts)
            kl, same = _distance(teacher, student)
        row = _row(spec["name"], spec["factor"], kl, same, tokens)
        rows.append(row | _size(cache, evicted) | {"seconds": seconds})
    return rows


def _prefill(model: Any, context: list[int], press: Any = None) -> tuple[DynamicCache, float]:  # noqa: ANN401
    """The context's cache, pressed or whole, and the seconds it took."""
    start, cache = time.perf_counter(), DynamicCache()
    around: AbstractContextManager[Any] = press(model) if press else nullcontext()
    with torch.no_grad(), around:
        if isinstance(press, kvpress.KVzipPress):
            # It takes the context for a user's turn after the template's default system text,
            # and would not reconstruct as many tokens of ours.
            press.prefix_length = 0
        model.model(input_ids=torch.tensor([context]), past_key_values=cache)
    return cache, time.perf_counter() - start


def _score(
    model: Any,  # noqa: ANN401
    cache: DynamicCache,
    length: int,
    texts: Sequence[tuple[list[int], list[int]]],
) -> Iterator[torch.Tensor]:
    """(T_i, V) log-probabilities over each answer; the cache is as before after each."""
    kept = [layer.keys.shape[2] for layer in cache.layers]
    for query, answer in texts:
        ids = torch.tensor([[*query, *answer[:-1]]])
        at = torch.arange(length, length + ids.shape[1])[None]
        with torch.no_grad():
            out = model(ids, past_key_values=cache, position_ids=at, logits_to_keep=len(answer))
        for layer, n in zip(cache.layers, kept, strict=True):
            layer.keys, layer.values = layer.keys[:, :, :n], layer.values[:, :, :n]
        yield out.logits[0].log_softmax(-1)


def _take_evicted(model: Any, length: int) -> list[torch.Tensor] | None:  # noqa: ANN401
    """(H_kv, n) for each layer, true where a press that only marks pairs has marked them.

    kvpress hides marked pairs behind made-up keys that have to repel every query of a pass, a
    search that need not succeed. The marks are taken from it and turned into a mask: exact.
    """
    layers = [layer.self_attn for layer in model.model.layers]
    if getattr(layers[0], "masked_key_indices", None) is None:
        return None
    evicted = []
    for attention in layers:
        _, heads, positions = attention.masked_key_indices
        attention.masked_key_indices = None
        marks = torch.zeros(model.config.num_key_value_heads, length, dtype=torch.bool)
        marks[heads, positions] = True
        evicted.append(marks)
    return evicted


@contextmanager
def _hidden(model: Any, evicted: list[torch.Tensor] | None) -> Iterator[None]:  # noqa: ANN401
    """Hide evicted pairs from the attention of every layer."""
    groups = model.config.num_attention_heads // model.config.num_key_value_heads

    def hide(module: Any, args: Any, kwargs: Row) -> tuple[Any, Row]:  # noqa: ANN401
        marks = (evicted or [])[module.layer_idx].repeat_interleave(groups, 0)[:, None]
        new = kwargs["hidden_states"].shape[1]
        own = torch.ones(new, new, dtype=torch.bool).tril().expand(len(marks), new, new)
        visible = torch.cat([~marks.expand(-1, new, -1), own], dim=2)
        mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
        return args, kwargs | {"attention_mask": mask[None]}

    layers = [layer.self_attn for layer in model.model.layers] if evicted else []
    hooks = [layer.register_forward_pre_hook(hide, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _distance(teacher: list[torch.Tensor], student: Iterator[torch.Tensor]) -> tuple[float, int]:
    """Σ KL(teacher ‖ student) in nats, and tokens with the same argmax."""
    kl, same = 0.0, 0
    for p, q in zip(teacher, student, strict=True):
        kl += float((p.exp() * (p - q)).sum(dtype=torch.float64))
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
    return kl, same


def _row(press: str, factor: float, kl: float, same: int, tokens: int) -> Row:
    means = {"kl": kl / tokens, "agreement": same / tokens, "answer_tokens": tokens}
    return {"press": press, "factor": factor, **means}


def _size(cache: DynamicCache, evicted: list[torch.Tensor] | None) -> Row:
    """Pairs kept: those in the cache less those that are only marked."""
    pairs = sum(layer.keys.shape[1] * layer.keys.shape[2] for layer in cache.layers)
    pairs -= sum(int(marks.sum()) for marks in evicted or [])
    heads, width = cache.layers[0].keys.shape[1], cache.layers[0].keys.shape[3]
    return {"kept_tokens": pairs / len(cache.layers) / heads, "kept_bytes": pairs * 2 * width * 4}


def main() -> None:
    """Read the job, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder with a transformers model")
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    job = json.loads(options.job.read_text(encoding="utf-8"))
    if unknown := {spec["name"] for spec in job["presses"]} - set(PRESSES):
        parser.error(f"unknown presses {', '.join(sorted(unknown))}; known: {', '.join(PRESSES)}")
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    options.out.write_text(json.dumps(run(model.eval(), job), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
