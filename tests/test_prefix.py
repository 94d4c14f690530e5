"""The student after a stored prefix is the teacher after the prompt, in every family."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny
from transformers import DynamicCache

from pcompiler import attention
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import NUCLEUS, greedy, sampler, score, steps
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import Prefix, nothing, prefill

CONTEXT = list(b"The workshop opens at nine and closes at five, except on Sundays.")
QUERIES = [list(b"When?"), list(b"Is it open on a Sunday morning?"), list(b"Hi")]


def full_logits(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Plain transformers over everything at once."""
    with torch.no_grad():
        out: torch.Tensor = model.hf(input_ids=model.tensor(ids), use_cache=False).logits[0]
    return out


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_student_logits_equal_the_teachers(family: str) -> None:
    model = tiny(family)
    cache = prefill(model, CONTEXT).cache(model)
    assert isinstance(cache, DynamicCache)
    query = model.tensor(QUERIES[1])
    with torch.no_grad():
        student = model.hf(input_ids=query, past_key_values=cache).logits[0]
    teacher = full_logits(model, CONTEXT + QUERIES[1])[len(CONTEXT) :]
    torch.testing.assert_close(student, teacher, rtol=1e-4, atol=1e-4)


@pytest.fixture(params=["host", "accelerator"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where tensors are, to attention: an accelerator gathers what a token sees."""
    if request.param == "accelerator":
        monkeypatch.setattr(attention, "on_host", lambda _: False)
        monkeypatch.setattr(attention, "GATHERED_SHARE", 0)
    return str(request.param)


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_packed_continuations_equal_each_one_alone(
    family: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered, calls = attention.Scene.gathered, []

    def counted(scene: attention.Scene, own: torch.Tensor) -> torch.Tensor:
        calls.append(own)
        return gathered(scene, own)

    monkeypatch.setattr(attention.Scene, "gathered", counted)
    model = tiny(family)
    prefix = prefill(model, CONTEXT)
    together = PackedRow(model, prefix, rows=3)
    first = together.extend(QUERIES, [0, 1, 2], [len(q) for q in QUERIES])
    more = together.extend([[40], [50, 60]], [2, 1], [1, 2])  # not in order, not all
    for row, part in enumerate(first.split([len(q) for q in QUERIES])):
        alone = full_logits(model, CONTEXT + QUERIES[row])[len(CONTEXT) :]
        torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4)
    alone = full_logits(model, CONTEXT + QUERIES[2] + [40])[-1:]
    torch.testing.assert_close(more[:1], alone, rtol=1e-4, atol=1e-4)
    alone = full_logits(model, CONTEXT + QUERIES[1] + [50, 60])[-2:]
    torch.testing.assert_close(more[1:], alone, rtol=1e-4, atol=1e-4)
    assert bool(calls) == (place == "accelerator")


def test_greedy_decoding_is_what_generate_does(model: LanguageModel) -> None:
    ids = model.tensor(CONTEXT + QUERIES[0])
    want = model.hf.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
    got = [s.tokens[0] for s in steps(model, prefill(model, CONTEXT), QUERIES[:1], 12)]
    assert got == want


def test_many_answers_are_the_same_as_one_at_a_time(model: LanguageModel) -> None:
    prefix = prefill(model, CONTEXT)
    together: list[list[int]] = [[], [], []]
    for step in steps(model, prefix, QUERIES, 10):
        for row, token in zip(step.rows, step.tokens, strict=True):
            together[row].append(token)
    alone = [[s.tokens[0] for s in steps(model, prefix, [q], 10)] for q in QUERIES]
    assert together == alone


def test_a_row_ends_after_its_stop_token_and_the_others_go_on(model: LanguageModel) -> None:
    stop = next(iter(model.stop_ids))

    def pick(logits: torch.Tensor) -> torch.Tensor:
        tokens = greedy(logits)
        if len(tokens) == 3:
            tokens[1] = stop
        return tokens

    seen = [s.rows for s in steps(model, prefill(model, CONTEXT), QUERIES, 3, pick)]
    assert seen[0] == [0, 1, 2]
    assert all(rows == [0, 2] for rows in seen[1:])
    assert len(seen) == 3


def test_scores_are_log_probabilities_of_the_plain_model(model: LanguageModel) -> None:
    answers = [[7, 8, 9], [10], [11, 12]]
    scored = score(model, prefill(model, CONTEXT), QUERIES, answers)
    for got, query, answer in zip(scored, QUERIES, answers, strict=True):
        logits = full_logits(model, CONTEXT + query + answer)
        want = logits[-len(answer) - 1 : -1].log_softmax(-1)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_scores_do_not_depend_on_how_probes_are_packed(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, answers = prefill(model, CONTEXT), [[7, 8], [9], [10, 11]]
    together = list(score(model, prefix, QUERIES, answers))
    monkeypatch.setattr("pcompiler.runtime.decode.PACK_TOKENS", 1)
    apart = list(score(model, prefix, QUERIES, answers))
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_cache_never_writes_to_its_prefix(model: LanguageModel) -> None:
    prefix = prefill(model, CONTEXT)
    before = prefix.keys.clone(), prefix.values.clone()
    list(steps(model, prefix, QUERIES, 8))
    assert torch.equal(prefix.keys, before[0])
    assert torch.equal(prefix.values, before[1])


def test_a_cache_grows_past_its_room(model: LanguageModel) -> None:
    prefix = prefill(model, CONTEXT)
    cache = prefix.cache(model, room=1)
    with torch.no_grad():
        out = model.hf(input_ids=model.tensor(QUERIES[1]), past_key_values=cache).logits[0, -1]
    torch.testing.assert_close(
        out, full_logits(model, CONTEXT + QUERIES[1])[-1], rtol=1e-4, atol=1e-4
    )
    assert cache.get_seq_length() == len(CONTEXT) + len(QUERIES[1])


def test_logical_positions_go_on_from_the_length_not_from_what_is_kept(
    model: LanguageModel,
) -> None:
    """A prefix with fewer keys than positions: as if the others had been masked."""
    exact = prefill(model, CONTEXT)
    kept = [0, 1, 5, 9, 40]
    thin = Prefix(exact.keys[:, :, kept], exact.values[:, :, kept], exact.length)
    got = PackedRow(model, thin, 1).extend([QUERIES[0]], [0], [1])
    n, q = len(CONTEXT), len(QUERIES[0])
    mask = torch.full((q, n + q), torch.finfo(torch.float32).min)
    mask[:, kept] = 0
    mask[:, n:] = torch.full((q, q), torch.finfo(torch.float32).min).triu(1)
    with torch.no_grad():
        want = model.hf(
            input_ids=model.tensor(QUERIES[0]),
            position_ids=torch.arange(n, n + q)[None],
            attention_mask=mask[None, None],
            past_key_values=exact.cache(model),
        ).logits[0, -1:]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_no_prompt_is_the_bare_model(model: LanguageModel) -> None:
    got = PackedRow(model, nothing(model), 1).extend([CONTEXT], [0], [1])
    torch.testing.assert_close(got, full_logits(model, CONTEXT)[-1:], rtol=1e-4, atol=1e-4)


def test_sampling_is_seeded_and_stays_in_the_nucleus() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(400, 1)
    a = sampler(1.0, 0.7, seed=3)(logits)
    assert torch.equal(a, sampler(1.0, 0.7, seed=3)(logits))
    assert set(a.tolist()) == {0, 1}  # 0.5 alone is below 0.7, 0.5 + 0.3 passes it
    share = float((a == 0).float().mean())
    assert 0.5 < share < 0.75  # 0.625 expected


def test_a_nucleus_of_more_tokens_than_are_looked_at_first_is_drawn_from_as_a_whole() -> None:
    logits = torch.zeros(2_000, 3 * NUCLEUS)
    logits[:, 0] = 1.0
    drawn = sampler(1.0, 0.99, seed=1)(logits)
    assert torch.equal(drawn, sampler(1.0, 0.99, seed=1)(logits))
    counts = torch.histc(drawn.float(), bins=3, min=0, max=3 * NUCLEUS)
    assert counts.min() > 500  # of 667 each; eight standard deviations


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_prefill_in_chunks_is_the_one_in_a_piece(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(family)
    whole = prefill(model, CONTEXT)
    monkeypatch.setattr("pcompiler.runtime.prefix.CHUNK_TOKENS", 24)
    chunked = prefill(model, CONTEXT)
    assert chunked.length == whole.length == len(CONTEXT)
    torch.testing.assert_close(chunked.keys, whole.keys, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chunked.values, whole.values, rtol=1e-4, atol=1e-4)


def test_rows_share_a_prompts_keys_and_copy_them_only_for_attention_in_one_piece(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = prefill(model, CONTEXT)
    start = prefix.keys[1].data_ptr()
    packed = PackedRow(model, prefix, 2, room=4)
    first = packed.extend([QUERIES[1]], [1], [1])
    (keys, _), (own, _) = packed.layers[1].parts()
    assert keys.data_ptr() == start
    assert own.shape[1] == packed.layers[1].own == len(QUERIES[1])
    monkeypatch.setattr("pcompiler.attention.attend.path", lambda *_: None)
    last = packed.extend([QUERIES[2], [40]], [0, 1], [1, 1])
    (keys, _), (own, _) = packed.layers[1].parts()
    assert keys.data_ptr() != start
    assert torch.equal(keys, prefix.keys[1])
    assert own.shape[1] == packed.layers[1].own == len(QUERIES[1] + QUERIES[2] + [40])
    texts = QUERIES[1], QUERIES[2], QUERIES[1] + [40]
    for got, text in zip((first, *last.split(1)), texts, strict=True):
        alone = full_logits(model, CONTEXT + text)[-1:]
        torch.testing.assert_close(got, alone, rtol=1e-4, atol=1e-4)


def test_a_row_that_is_let_go_frees_its_cache_at_once(model: LanguageModel) -> None:
    """A cycle would keep each query's copy of a prompt until the collector comes by."""
    packed = PackedRow(model, prefill(model, CONTEXT), 2)
    packed.extend([QUERIES[0], QUERIES[1]], [0, 1], [1, 1])
    packed.extend([[5], [6]], [0, 1], [1, 1])
    cache = weakref.ref(packed.layers[0])
    gc.disable()
    try:
        del packed
        assert cache() is None
    finally:
        gc.enable()
