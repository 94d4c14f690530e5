"""The real model on the real example: the figures that the first issue asks for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pcompiler.compiler import Compiler
from pcompiler.frontend import read_source
from pcompiler.model import LanguageModel, hash_weights
from pcompiler.pipeline import Compiled
from pcompiler.queries import read_queries
from pcompiler.runtime.prefix import prefill

pytestmark = pytest.mark.model
EXAMPLES = Path(__file__).parent.parent / "examples"
SOURCE = read_source(EXAMPLES / "support_desk.md")
QUERIES = [p.query for p in read_queries(EXAMPLES / "support_desk.queries.jsonl")]


@pytest.fixture(scope="module")
def compiler(
    smollm2: LanguageModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compiler]:
    with Compiler(model=smollm2, store=tmp_path_factory.mktemp("store") / "s") as made:
        yield made


@pytest.fixture(scope="module")
def compiled(compiler: Compiler) -> Compiled:
    return compiler.compile(SOURCE, target="kv", queries=QUERIES[:8])


def test_the_example_is_what_the_readme_says(compiled: Compiled) -> None:
    assert len(QUERIES) == 40
    assert 900 < compiled.header.context_tokens < 1200


def test_the_exact_cache_is_exact(compiled: Compiled) -> None:
    f = compiled.fidelity
    assert f.agreement == 1.0
    assert f.kl < 1e-3
    assert f.kl_no_prompt > 0.1
    assert f.agreement_no_prompt < 0.9


def test_student_logits_equal_the_teachers_to_rounding(smollm2: LanguageModel) -> None:
    context = smollm2.tokenizer.encode(SOURCE)[:300]
    query = smollm2.tokenizer.encode("When are you open on Saturday?")
    with torch.no_grad():
        teacher = smollm2.hf(input_ids=smollm2.tensor(context + query)).logits[0, -len(query) :]
        cache = prefill(smollm2, context).cache(smollm2)
        out = smollm2.hf(input_ids=smollm2.tensor(query), past_key_values=cache).logits[0]
    assert float((out - teacher).norm() / teacher.norm()) < 1e-5


def test_the_first_token_comes_much_sooner(compiler: Compiler, compiled: Compiled) -> None:
    """The benchmark asks for 10 times; here other processes may be running."""
    waits = {}
    for name in ("full", "artifact"):
        start = time.perf_counter()
        opened = compiler.full_prompt(SOURCE) if name == "full" else compiler.session(compiled)
        with opened as session:
            next(session.stream(QUERIES[0]))
        waits[name] = time.perf_counter() - start
    assert waits["full"] > 5 * waits["artifact"]


def test_answers_are_the_full_prompts(compiler: Compiler, compiled: Compiled) -> None:
    with compiler.full_prompt(SOURCE) as full, compiler.session(compiled) as session:
        for query in QUERIES[:2]:
            assert session.generate(query, max_tokens=16) == full.generate(query, max_tokens=16)


def test_a_repeated_compile_takes_milliseconds(compiler: Compiler, compiled: Compiled) -> None:
    again = compiler.compile(SOURCE, target="kv", queries=QUERIES[:8])
    assert again.cached
    assert again.id == compiled.id
    assert again.elapsed_s < 0.05


def test_text_lies_between_the_bounds(compiler: Compiler, compiled: Compiled) -> None:
    text = compiler.compile(SOURCE, target="text", queries=QUERIES[:8])
    assert text.header.kept_tokens < text.header.context_tokens
    assert 0 < text.fidelity.kl < text.fidelity.kl_no_prompt
    assert text.fidelity.kl_no_prompt == compiled.fidelity.kl_no_prompt


def test_self_study_writes_queries_that_differ(compiler: Compiler) -> None:
    done = compiler.compile("You are the desk of a bicycle shop in Freiburg.", target="text")
    probes = compiler.store.probes(done.header.probes_hash) or ""
    queries = [json.loads(line)["query"] for line in probes.splitlines()]
    assert len(set(queries)) == compiler.config.probes.self_study


def test_loading_and_hashing_are_quick(smollm2: LanguageModel) -> None:
    start = time.perf_counter()
    LanguageModel.load("smollm2", "cpu")
    assert time.perf_counter() - start < 5
    start = time.perf_counter()
    assert hash_weights(smollm2.hf) == smollm2.card.weights
    assert time.perf_counter() - start < 1


def test_digits_are_split_one_by_one_even_after_blanks(smollm2: LanguageModel) -> None:
    tokenizer = smollm2.tokenizer
    for text in ("call 112", "call  112", "call   112", "1990"):
        pieces = [tokenizer.decode([i]) for i in tokenizer.encode(text)]
        assert all(sum(c.isdigit() for c in piece) <= 1 for piece in pieces), pieces
        assert "".join(pieces) == text
