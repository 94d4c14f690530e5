"""The walk through the layers is the model's own forward pass, for teacher and students alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import FAMILY_EXTRAS, tiny

from pcompiler.dynamics import packs, stream
from pcompiler.dynamics.blocks import Block, embed, rotary
from pcompiler.dynamics.capture import Teacher
from pcompiler.dynamics.packs import Pack, Row, pack_rows
from pcompiler.dynamics.student import walk
from pcompiler.model import LanguageModel
from pcompiler.runtime.packed import PackedRow
from pcompiler.runtime.prefix import Prefix, prefill

CONTEXT = list(b"The workshop opens at nine and closes at five, except on Sundays.")
TURNS = ["When?", "Is it open on Sunday?", "Hi", "Who is there at noon?", "Why", "How much is it?"]
ROWS = [
    Row(
        list(turn.encode()), [0, *turn.encode()], list(f"{turn[::-1]} At {i}!".encode()), i % 3 == 2
    )
    for i, turn in enumerate(TURNS)
]


@contextmanager
def last_stream(model: LanguageModel) -> Iterator[list[torch.Tensor]]:
    """What leaves the last block of each forward pass, (t, d)."""
    seen: list[torch.Tensor] = []

    def hook(_module: object, _arguments: object, output: object) -> None:
        h = output[0] if isinstance(output, tuple) else output
        assert isinstance(h, torch.Tensor)
        seen.append(h.reshape(-1, h.shape[-1]).clone())

    with model.hf.model.layers[-1].register_forward_hook(hook):
        yield seen


def plain(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """The last block's output for tokens that stand alone, by transformers: (t, d)."""
    with torch.no_grad(), last_stream(model) as seen:
        model.hf(input_ids=model.tensor(ids), use_cache=False)
    return seen[0]


def by_runtime(model: LanguageModel, prefix: Prefix, pack: Pack) -> torch.Tensor:
    """The last block's output for a pack that is run after a prefix, as artifacts are: (t, d)."""
    starts = [i for i, at in enumerate(pack.offset.tolist()) if at == 0]
    ends = [*starts[1:], len(pack.tokens)]
    texts = [pack.tokens[a:b] for a, b in zip(starts, ends, strict=True)]
    with last_stream(model) as seen:
        PackedRow(model, prefix, len(texts)).extend(texts, range(len(texts)), [1] * len(texts))
    return seen[0]


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_the_teacher_walks_as_transformers_runs(family: str) -> None:
    model = tiny(family)
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS))
    walk(model, teacher, [])
    rows = [r for flag in (False, True) for r in ROWS if r.validation == flag]
    want = [plain(model, [*CONTEXT, *r.query, *r.answer[:-1]])[len(CONTEXT) :] for r in rows]
    got = torch.cat([teacher.h[i] for i in range(len(teacher.packs))])
    assert error(got, torch.cat(want)) < 1e-5


@pytest.mark.parametrize("cap", [1.0, None])
def test_a_cap_on_attention_logits_is_walked_as_transformers_runs_it(cap: float | None) -> None:
    model = tiny("gemma2", attn_logit_softcapping=cap)
    teacher = Teacher(model, prefill(model, CONTEXT), pack_rows(ROWS[:1]))
    walk(model, teacher, [])
    whole = plain(model, [*CONTEXT, *ROWS[0].query, *ROWS[0].answer[:-1]])
    assert error(teacher.h[0], whole[len(CONTEXT) :]) < 1e-5


@pytest.mark.parametrize("family", FAMILY_EXTRAS)
def test_a_block_alone_is_the_layer(family: str) -> None:
    """Step by step, with nothing but a causal mask between tokens; shorter than any window."""
    model, ids = tiny(family), CONTEXT[:12]
    h = embed(model, ids)
    future = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    for layer in range(model.card.layers):
        block = Block(model, layer)
        x = block.project(h, rotary(model, block, torch.arange(len(ids))))
        p = block.logits(x.q, x.k).masked_fill(future, -torch.inf).softmax(-1)
        values = x.v.repeat_interleave(len(x.q) // len(x.v), dim=0)
        r = block.mix(h, block.project_out((p @ values).transpose(0, 1).flatten(1)))
        u = block.features(r)
        h = block.finish(r, block.down(u))
        # What is missing for a wanted output is exactly what, added to W_down u, gives it.
        wanted = h + 0.1 * r
        if not hasattr(block.layer, "post_feedforward_layernorm"):
            missing = block.missing(wanted, r, block.down(u))
            assert error(block.finish(r, block.down(u) + missing), wanted) < 1e-5
    assert error(h, plain(model, ids)) < 1e-5


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_past_a_norm_what_is_missing_gives_the_wanted_direction(family: str) -> None:
    model = tiny(family)
    block, r = Block(model, 1), embed(model, CONTEXT)
    downed = block.down(block.features(r))
    reachable = block.finish(r, downed + torch.randn(downed.shape))
    missing = block.missing(reachable, r, downed)
    assert error(block.finish(r, downed + missing), reachable) < 1e-5


def test_a_stream_in_a_file_leaves_nothing_behind(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("streams")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", 0)
    lengths = [len(p.tokens) for p in pack_rows(ROWS)]
    known = stream.Stream(model.device, lengths, 5)
    known[1] = torch.ones(lengths[1], 5)
    assert not known[0].any()
    assert float(known[1].sum()) == known[1].numel()
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells")
def test_a_stream_in_a_file_lets_its_memory_go_and_keeps_its_numbers(model: LanguageModel) -> None:
    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShm")))

    known = stream.Stream(model.device, [16_384], 1024)
    known[0] = torch.arange(16_384.0)[:, None].expand(-1, 1024)
    before = resident()
    known.rest()
    assert before - resident() > 60_000  # KB, of 65,536
    assert torch.equal(known[0][:, 7], torch.arange(16_384.0))


def test_what_a_teacher_records_is_in_files_when_all_of_it_is_large(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    real = stream._mapped
    monkeypatch.setattr(stream, "_mapped", lambda size: made.append(size) or real(size))
    prefix, some = prefill(model, CONTEXT), pack_rows(ROWS)
    plain_walk = Teacher(model, prefix, some).record()
    assert not made
    one = 4 * model.card.hidden * sum(len(pack.tokens) for pack in some)
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", one)  # so none of them is large by itself
    assert torch.equal(Teacher(model, prefix, some).record(), plain_walk)
    assert made == [one] * 2 * model.card.layers  # heads are as wide as the stream here


@pytest.mark.parametrize("size", [1, 40, 256])
def test_packs_pair_the_teachers_tokens_with_the_bare_ones(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "PACK_TOKENS", size)
    full, bare = pack_rows(ROWS), pack_rows(ROWS, bare=True)
    assert len(full) == len(bare)
    assert sum(len(p.tokens) for p in full) == sum(len(r.query) + len(r.answer) - 1 for r in ROWS)
    for a, b in zip(full, bare, strict=True):
        assert a.validation == b.validation
        assert torch.equal(a.twin, torch.arange(len(a.tokens)))
        paired = b.twin >= 0
        assert [b.tokens[i] for i in paired.nonzero()[:, 0]] == a.tokens
        assert torch.equal(b.twin[paired], torch.arange(len(a.tokens)))
        assert [b.tokens[i] for i in (~paired).nonzero()[:, 0]] == [0] * int((b.offset == 0).sum())


def test_a_token_sees_its_own_probe_up_to_itself_and_nothing_else() -> None:
    pack = pack_rows(ROWS)[0]
    owner = torch.cumsum(pack.offset == 0, 0)
    for i, seen in enumerate(pack.seen.tolist()):
        own = [j for j in range(i, -1, -1) if owner[j] == owner[i]]
        assert seen == own + [-1] * (len(seen) - len(own))


def test_importance_is_of_fitting_probes_only(model: LanguageModel) -> None:
    prefix = prefill(model, CONTEXT)
    both = Teacher(model, prefix, pack_rows(ROWS)).record()
    fitting = Teacher(model, prefix, pack_rows([r for r in ROWS if not r.validation])).record()
    torch.testing.assert_close(both, fitting, rtol=1e-4, atol=1e-6)
