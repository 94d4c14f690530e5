"""The exact per-token update: what a context does, as weights, in every family."""

from __future__ import annotations

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny

from pcompiler.dynamics import implicit
from pcompiler.dynamics.implicit import LayerUpdate, applied, exact_updates
from pcompiler.dynamics.settling import settling
from pcompiler.dynamics.states import padded, watching
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel, hash_weights

CONTEXTS = [list(b"The workshop opens at nine and closes at five."), list(b"No."), []]
QUERIES = [list(b"When?"), list(b"Is it open on Sunday?"), list(b"Hi")]


def logits(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model.hf(input_ids=ids, use_cache=False).logits
    return out


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


def errors(model: LanguageModel, updates: list[LayerUpdate]) -> list[float]:
    """Relative error of each patched query's logits against its logits in context."""
    with applied(model, updates):
        got = logits(model, padded(model, QUERIES))
    return [
        error(row[: len(q)], logits(model, model.tensor(c + q))[0, len(c) :])
        for row, c, q in zip(got, CONTEXTS, QUERIES, strict=True)
    ]


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_patched_query_alone_is_the_query_in_its_context(family: str) -> None:
    model = tiny(family)
    alone = logits(model, model.tensor(QUERIES[0]))[0]
    there = logits(model, model.tensor(CONTEXTS[0] + QUERIES[0]))[0, -len(QUERIES[0]) :]
    assert error(alone, there) > 0.1  # the context matters
    assert max(errors(model, exact_updates(model, CONTEXTS, QUERIES))) < 1e-5


def test_contexts_may_be_solved_in_chunks(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implicit, "CHUNK_TOKENS", 1)
    updates = exact_updates(model, CONTEXTS, QUERIES)
    assert updates[0].shift.shape == (3, max(map(len, QUERIES)), model.card.hidden)
    assert max(errors(model, updates)) < 1e-5


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text"])
def test_an_empty_context_changes_nothing(family: str) -> None:
    model = tiny(family)
    updates = exact_updates(model, [[]], QUERIES[:1])
    assert all(not u.shift.any() and not u.bias.any() for u in updates)
    with applied(model, updates):
        patched = logits(model, model.tensor(QUERIES[0]))
    assert torch.equal(patched, logits(model, model.tensor(QUERIES[0])))


def test_the_model_is_bit_identical_afterwards_even_after_an_error(model: LanguageModel) -> None:
    ids = model.tensor(QUERIES[1])
    before, weights = logits(model, ids), hash_weights(model.hf)
    updates = exact_updates(model, CONTEXTS, QUERIES)
    with pytest.raises(InputError, match="3 queries of 21 tokens"), applied(model, updates):
        logits(model, ids)
    assert torch.equal(logits(model, ids), before)
    assert hash_weights(model.hf) == weights


def test_the_update_has_the_least_frobenius_norm(model: LanguageModel) -> None:
    """lstsq gives the least-norm solution of ΔW z = W (z_C − z), row by row."""
    update = exact_updates(model, CONTEXTS[:1], QUERIES[:1])[1]
    weight = model.hf.model.layers[1].mlp.gate_proj.weight
    z, left, right = update.inputs[0, 2], update.left(weight)[0, 2], update.right()[0, 2]
    least = torch.linalg.lstsq(z[None].double(), left[None].double(), driver="gelsd").solution.T
    torch.testing.assert_close(torch.outer(left, right).double(), least, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        update.times(weight, update.inputs)[0, 2], left, rtol=1e-4, atol=1e-5
    )


def test_updates_are_kept_in_factors(model: LanguageModel) -> None:
    updates = exact_updates(model, CONTEXTS, QUERIES)
    tokens = 3 * max(map(len, QUERIES))
    assert sum(u.size_bytes for u in updates) == model.card.layers * tokens * 3 * 32 * 4


@pytest.mark.parametrize(
    ("contexts", "queries", "words"),
    [
        ([[1]], [[]], "none of them empty"),
        ([], [], "nothing to run"),
        ([[1] * 2048], [[1]], "2048"),
    ],
)
def test_what_cannot_be_solved_is_said(
    model: LanguageModel, contexts: list[list[int]], queries: list[list[int]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        exact_updates(model, contexts, queries)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_settling_is_what_each_shorter_context_gives_alone(family: str) -> None:
    model, context, query = tiny(family), CONTEXTS[0][:24], 77
    got = settling(model, context, query)
    naive = [exact_updates(model, [context[: i + 1]], [[query]]) for i in range(len(context))]
    for layer, block in enumerate(model.hf.model.layers):
        weight = torch.cat([block.mlp.gate_proj.weight, block.mlp.up_proj.weight])
        dense = torch.stack(
            [torch.outer(u[layer].left(weight)[0, 0], u[layer].right()[0, 0]) for u in naive]
        )
        want = dense.diff(dim=0).flatten(1).norm(dim=1)
        torch.testing.assert_close(got.steps[layer], want, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            got.sizes[layer], dense.flatten(1).norm(dim=1), rtol=1e-3, atol=1e-4
        )


def test_settling_does_not_depend_on_how_copies_are_chunked(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = settling(model, CONTEXTS[0], 77)
    monkeypatch.setattr("pcompiler.dynamics.settling.CHUNK", 7)
    torch.testing.assert_close(settling(model, CONTEXTS[0], 77).steps, whole.steps)


def test_settling_refuses_an_empty_context(model: LanguageModel) -> None:
    with pytest.raises(InputError, match="0 tokens"):
        settling(model, [], 5)


def test_watching_leaves_no_hooks(model: LanguageModel) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in model.hf.modules())

    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    before = hooks()
    with pytest.raises(RuntimeError, match="stop"), watching(model, stop):
        logits(model, model.tensor(QUERIES[0]))
    assert hooks() == before


@pytest.mark.model
def test_the_real_model_is_patched_exactly(smollm2: LanguageModel) -> None:
    encode = smollm2.tokenizer.encode
    context = encode("The harbour café in Lübeck opens at 7:40 and sells rye rolls for 2.30 EUR.")
    query = encode("When does the harbour café open?")
    want = logits(smollm2, smollm2.tensor(context + query))[0, len(context) :]
    updates = exact_updates(smollm2, [context], [query])
    with applied(smollm2, updates):
        got = logits(smollm2, smollm2.tensor(query))[0]
    assert error(logits(smollm2, smollm2.tensor(query))[0], want) > 0.05
    assert error(got, want) < 1e-5
