"""Simulated prompts: real text, drawn by Zipf's law, as different as asked for, always the same."""

from __future__ import annotations

import numpy as np
import pytest

from pcompiler.bench import corpora, traffic
from pcompiler.bench.latency_summary import summary
from pcompiler.errors import InputError


@pytest.fixture(scope="module")
def texts() -> traffic.Texts:
    return traffic.texts(None)


def test_a_prompt_is_a_template_with_its_request_and_passage_all_real_text(
    texts: traffic.Texts,
) -> None:
    (docs,), _ = corpora.load(None, (corpora.DOCS,))
    real = " ".join(
        " ".join(file.data.decode().split()) for file in (*docs.training, *docs.measured)
    )
    for rank in (0, 1, 77, 10**6, texts.combinations - 1):
        prompt = texts.prompt(rank)
        assert "{request}" not in prompt
        opening, request, passage = prompt.rsplit("\n\n", 2)
        assert " ".join(opening.split()) in real
        assert request in real
        assert passage.removeprefix("Context: ") in real


def test_a_quotation_at_the_end_of_a_role_prompt_is_where_the_request_goes() -> None:
    found = traffic._template(
        'Act as a "poet of Rome". My first request is "Write an ode to rain."'
    )
    assert found == 'Act as a "poet of Rome". My first request is "{request}"'
    assert traffic._template("Be brief.") == "Be brief.\n\n{request}"


def test_every_rank_has_a_prompt_of_its_own() -> None:
    few = traffic.Texts("x", ("a {request}", "b {request}", "c {request}"), ("1", "2"), ("p", "q"))
    prompts = [few.prompt(rank) for rank in range(few.combinations)]
    assert len(set(prompts)) == few.combinations == 12
    assert {prompt[0] for prompt in prompts[:3]} == {
        "a",
        "b",
        "c",
    }  # popular ones: of every template


def test_draws_follow_zipfs_law_and_their_seed() -> None:
    drawn = traffic.draws(10_000, 200_000, seed=1)
    assert np.array_equal(drawn, traffic.draws(10_000, 200_000, seed=1))
    assert not np.array_equal(drawn, traffic.draws(10_000, 200_000, seed=2))
    counts = np.bincount(drawn, minlength=10_000)
    assert counts[0] / counts[9] == pytest.approx(np.log(2) / np.log(1.1), rel=0.1)
    assert traffic.redundancy(drawn, 10_000).exponent == pytest.approx(1, abs=0.05)
    assert (drawn.min(), drawn.max() < 10_000) == (0, True)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_as_many_are_different_as_asked_for(share: float) -> None:
    count = 50_000
    ranks = traffic.ranks_for(share * count, count, 10**12)
    found = traffic.redundancy(traffic.draws(ranks, count), ranks)
    assert found.distinct == pytest.approx(share * count, rel=0.03)
    assert found.from_ranks == ranks


def test_more_different_ones_than_the_texts_allow_for_are_refused() -> None:
    with pytest.raises(InputError, match="Lower --distinct-factor"):
        traffic.ranks_for(900, 1_000, 10**6)


def test_percentiles_are_latencies_that_were_seen() -> None:
    seconds = np.arange(1, 1_001) / 1_000
    found = summary(np.random.default_rng(0).permutation(seconds))
    assert (found.count, found.p50, found.p99, found.p999) == (1_000, 0.5, 0.99, 0.999)
    assert (found.most, found.mean) == (1.0, pytest.approx(0.5005))
    assert summary(np.array([2.0])).p999 == 2
    with pytest.raises(InputError, match="no latencies"):
        summary(np.array([]))
