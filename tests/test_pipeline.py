"""The compiler end to end on a tiny model: fidelity, gates, the store, determinism, sessions."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny

import pcompiler
from pcompiler import fidelity
from pcompiler.compiler import Compiler
from pcompiler.config import Config
from pcompiler.errors import ConfigError, GateMissed, InputError, MismatchError, UserError
from pcompiler.frontend import parse
from pcompiler.ir import Fidelity, Probe
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import score
from pcompiler.runtime.prefix import Prefix, nothing, prefill
from pcompiler.store.artifact import Artifact
from pcompiler.store.db import Store
from pcompiler.targets.base import Compilation

PARAGRAPH = "The workshop opens at nine and closes at five, except on public holidays."
PROMPT = f"You are the desk.\n\n{PARAGRAPH}\n\n{PARAGRAPH}\n\nBe brief.\n"
QUERIES = ["When?", "Is it open on Sunday?", "Hello", "Why"]


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_an_exact_cache_is_exact_in_every_family(family: str, config: Config) -> None:
    with Compiler(model=tiny(family), config=config) as compiler:
        done = compiler.compile(PROMPT, target="kv", queries=QUERIES)
    assert done.fidelity.agreement == 1.0
    assert 0 <= done.fidelity.kl < 1e-3
    assert done.fidelity.kl_no_prompt > 0.01  # the prompt matters, or the test shows nothing
    assert done.fidelity.probes == len(QUERIES)
    assert done.header.kept_tokens == done.header.context_tokens


def test_text_keeps_fewer_tokens_and_lies_between_the_bounds(compiler: Compiler) -> None:
    done = compiler.compile(PROMPT, target="text", queries=QUERIES)
    assert done.header.kept_tokens < done.header.context_tokens - len(PARAGRAPH) // 2
    assert 0 < done.fidelity.kl < done.fidelity.kl_no_prompt
    text = compiler.store.get(done.id).tensors()["text"].numpy().tobytes().decode()
    assert text.count(PARAGRAPH) == 1


def test_text_without_anything_to_drop_is_the_same_prompt(compiler: Compiler) -> None:
    done = compiler.compile("Be brief and kind to all who call.", target="text", queries=QUERIES)
    assert done.fidelity.agreement == 1.0
    assert done.fidelity.kl < 1e-6


def test_fidelity_is_the_textbooks(model: LanguageModel, config: Config) -> None:
    """Against a plain computation, one probe at a time, straight from full sequences."""
    compilation = Compilation(parse(PROMPT), model, config)
    probes = [Probe(q) for q in QUERIES]
    teacher = fidelity.reference(compilation, probes)
    student = prefill(model, compilation.context[:40])
    got = fidelity.measure(model, student, teacher)
    kl, same, tokens = 0.0, 0, 0
    for query, answer in zip(teacher.queries, teacher.answers, strict=True):
        p, q = (
            next(score(model, prefix, [query], [answer.tokens])).double()
            for prefix in (compilation.teacher, student)
        )
        for i in range(len(answer.tokens)):
            pairs = zip(p[i].tolist(), q[i].tolist(), strict=True)
            kl += sum(math.exp(a) * (a - b) for a, b in pairs)
            same += int(p[i].argmax() == q[i].argmax())
        tokens += len(answer.tokens)
    assert got.kl == pytest.approx(kl / tokens, rel=1e-4)
    assert got.agreement == same / tokens
    assert got.answer_tokens == tokens
    itself = fidelity.compare(model, compilation.teacher, teacher, "itself").means()
    assert itself[0] < 1e-9
    assert itself[1] == 1.0
    bare = fidelity.compare(model, nothing(model), teacher, "none")  # this template adds no BOS
    assert bare.means()[0] == pytest.approx(got.kl_no_prompt, rel=1e-6)
    assert (bare.tokens, len(bare.kl)) == ([len(a.tokens) for a in teacher.answers], len(QUERIES))


def test_fidelity_does_not_depend_on_how_much_is_kept_or_packed(
    model: LanguageModel, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured() -> Fidelity:
        compilation = Compilation(parse(PROMPT), model, config)
        teacher = fidelity.reference(compilation, [Probe(q) for q in QUERIES])
        return fidelity.measure(model, prefill(model, compilation.context[:40]), teacher)

    together = measured()
    monkeypatch.setattr(fidelity, "KEEP_BYTES", 0)
    monkeypatch.setattr("pcompiler.runtime.decode.DECODE_TOKENS", 1)
    apart = measured()
    assert apart.kl == pytest.approx(together.kl, rel=1e-4)
    assert apart.kl_no_prompt == pytest.approx(together.kl_no_prompt, rel=1e-4)
    assert (apart.agreement, apart.answer_tokens) == (together.agreement, together.answer_tokens)


def test_many_queries_take_no_more_memory_than_few(model: LanguageModel, config: Config) -> None:
    """All in one row, 1,500 queries would need a mask of gigabytes; they once did."""
    import resource

    compilation = Compilation(parse(PROMPT), model, config)
    fidelity.reference(compilation, [Probe(f"When, {i}?") for i in range(50)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fidelity.reference(compilation, [Probe(f"When, {i}?") for i in range(1500)])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000  # KiB; of a tiny model, log-probabilities included


def test_a_second_compile_is_a_hit_and_says_so(compiler: Compiler) -> None:
    first = compiler.compile(PROMPT, queries=QUERIES)
    again = compiler.compile(PROMPT, queries=QUERIES)
    assert (first.cached, again.cached) == (False, True)
    assert again.header == first.header
    assert again.elapsed_s < 0.05
    other = compiler.compile(PROMPT, queries=QUERIES[:2])
    assert not other.cached
    assert other.id != first.id


def test_the_same_inputs_give_the_same_bytes(
    model: LanguageModel, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    encoded = []
    for name in ("a", "b"):
        with Compiler(model=model, store=tmp_path / name, config=config) as compiler:
            for target in ("kv", "text"):
                done = compiler.compile(PROMPT, target=target)
                artifact = compiler.store.get(done.id)
                untimed = replace(artifact.header, timing={})
                encoded.append(Artifact(untimed, artifact.body).encode())
    assert encoded[:2] == encoded[2:]


def test_a_missed_gate_stores_nothing_and_gives_both_figures(compiler: Compiler) -> None:
    with pytest.raises(GateMissed, match=r"agreement is .*100\.00 %"):
        compiler.compile(PROMPT, target="text", queries=QUERIES, min_agreement=1.0)
    with pytest.raises(GateMissed, match="KL is"):
        compiler.compile(PROMPT, target="text", queries=QUERIES, max_kl=1e-9)
    assert list(compiler.store.headers()) == []
    compiler.compile(PROMPT, target="text", queries=QUERIES)
    with pytest.raises(GateMissed):  # a hit is held against the gate as well
        compiler.compile(PROMPT, target="text", queries=QUERIES, min_agreement=1.0)
    assert compiler.compile(PROMPT, target="kv", queries=QUERIES, min_agreement=1.0).id
    with pytest.raises(ConfigError, match="min_agreement"):
        compiler.compile(PROMPT, queries=QUERIES, min_agreement=2.0)


def test_an_unknown_target_lists_the_known_ones(compiler: Compiler) -> None:
    with pytest.raises(ConfigError, match="kv, text, weights, hybrid"):
        compiler.compile(PROMPT, target="gold")


def test_a_prompt_or_query_past_the_window_is_refused_before_any_work(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("the model was run")

    monkeypatch.setattr("pcompiler.targets.base.prefill", no_work)
    with pytest.raises(InputError, match=r"tokens.*window of 2048"):
        compiler.compile("word " * 500)
    with pytest.raises(InputError, match="query has"):
        compiler.compile("word " * 350, queries=["x" * 400])


def test_self_study_is_seeded_and_goes_into_the_header(
    model: LanguageModel, config: Config, compiler: Compiler
) -> None:
    def written(settings: Config) -> Sequence[Probe]:
        return Compilation(parse(PROMPT), model, settings).probes

    queries = written(config)
    assert queries == written(config)
    assert 1 <= len(queries) <= config.probes.self_study
    assert written(replace(config, compile=replace(config.compile, seed=5))) != queries
    done = compiler.compile(PROMPT)
    assert done.header.probes_from == "self-study"
    assert compiler.store.probes(done.header.probes_hash)


def test_a_session_answers_as_the_full_prompt_does(compiler: Compiler) -> None:
    done = compiler.compile(PROMPT, queries=QUERIES)
    with compiler.session(done) as session, compiler.full_prompt(PROMPT) as full:
        for query in QUERIES:
            want = full.generate(query, max_tokens=12)
            assert session.generate(query, max_tokens=12) == want
            assert "".join(session.stream(query, max_tokens=12)) == want
        drawn = session.generate("x", max_tokens=12, temperature=1.0, seed=1)
        assert drawn == session.generate("x", max_tokens=12, temperature=1.0, seed=1)
        assert drawn != session.generate("x", max_tokens=12, temperature=1.0, seed=2)
    with pytest.raises(InputError, match="closed"):
        session.generate("x")


def test_a_stream_never_cuts_a_character(compiler: Compiler) -> None:
    """With one token a byte, "é" takes two steps; its half must not be shown."""
    done = compiler.compile(PROMPT, queries=QUERIES)
    with compiler.session(done) as session:
        ids = session.model.tokenizer.encode("aé😀!", add_special_tokens=False)
        assert len(ids) == len("aé😀!".encode())
        assert list(session._pieces(iter(ids))) == ["a", "é", "😀", "!"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"query": "  "}, "empty"),
        ({"query": "x" * 3000}, "fit the model's window"),
        ({"query": "x", "max_tokens": 0}, "max_tokens"),
        ({"query": "x", "temperature": -1.0}, "temperature"),
        ({"query": "x", "top_p": 0.0}, "top_p"),
    ],
)
def test_a_bad_query_is_refused(
    compiler: Compiler, arguments: dict[str, object], words: str
) -> None:
    session = compiler.session(compiler.compile(PROMPT, queries=QUERIES))
    with pytest.raises(UserError, match=words):
        session.generate(**arguments)  # type: ignore[arg-type]


def test_an_artifact_of_another_model_names_what_differs(
    compiler: Compiler, config: Config, tmp_path: Path
) -> None:
    artifact = compiler.store.get(compiler.compile(PROMPT, queries=QUERIES).id)
    with Compiler(model=tiny(seed=1), store=tmp_path / "other", config=config) as other:
        with pytest.raises(MismatchError, match="weights") as caught:
            other.session(artifact)
        assert "layers" not in str(caught.value)


def test_chat_messages_compile_too(compiler: Compiler) -> None:
    chat = (
        '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},'
        ' {"role": "assistant", "content": "Hello"}]'
    )
    done = compiler.compile(chat, queries=QUERIES)
    assert done.fidelity.agreement == 1.0
    with compiler.session(done) as session, compiler.full_prompt(chat) as full:
        assert session.generate("Who?", max_tokens=8) == full.generate("Who?", max_tokens=8)


def test_the_public_surface_is_this() -> None:
    assert sorted(pcompiler.__all__) == [
        *("Artifact", "Compiler", "Config", "Fidelity", "LanguageModel", "PcompilerError"),
        *("Prompt", "Session", "Store", "parse"),
    ]
    for name in pcompiler.__all__:
        assert getattr(pcompiler, name)
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = pcompiler.Nonsense


def test_a_store_that_was_given_open_stays_open(
    model: LanguageModel, config: Config, store: Store
) -> None:
    with Compiler(model=model, store=store, config=config) as compiler:
        done = compiler.compile(PROMPT, queries=QUERIES)
    assert store.find(done.id)


def test_compile_time_counts_a_prefill_that_another_target_paid_for(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcompiler.targets import base

    def slow(model: LanguageModel, ids: list[int]) -> Prefix:
        time.sleep(0.3)
        return prefill(model, ids)

    monkeypatch.setattr(base, "prefill", slow)
    text = compiler.compile(PROMPT, target="text", queries=QUERIES)  # its measuring pays
    kv = compiler.compile(PROMPT, target="kv", queries=QUERIES)
    assert text.header.timing["compile_s"] < 0.3 <= kv.header.timing["compile_s"] < 0.6


def test_a_half_precision_model_gives_a_half_precision_artifact(config: Config) -> None:
    from pcompiler.device import pick

    half = LanguageModel.from_objects(tiny().hf, tiny().tokenizer, pick("cpu", "bfloat16"))
    with Compiler(model=half, config=config) as compiler:
        done = compiler.compile(PROMPT, queries=QUERIES)
        assert compiler.store.get(done.id).tensors()["keys"].dtype is torch.bfloat16
        assert done.fidelity.agreement == 1.0
