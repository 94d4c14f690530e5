"""Drafts: prompts compiled without a model; engines make many, each content once, and lose none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pcompiler.draft import Drafter
from pcompiler.embed.cache import decode
from pcompiler.embed.static import Static
from pcompiler.errors import ConfigError, DamageError, InputError, NotFoundError
from pcompiler.ir import Message
from pcompiler.scale.base import Entry, Outcome
from pcompiler.scale.drafts import Drafts
from pcompiler.scale.local import Local
from pcompiler.store.check import check
from pcompiler.store.db import Store
from pcompiler.store.drafts import Draft

PROMPTS = [f"Answer for desk {n}. Refunds above {n}00 EUR need approval." for n in range(30)]


@pytest.fixture
def engine(store: Store, table: Static) -> Iterator[Local]:
    with Local(Drafts(store, table)) as made:
        yield made


def test_a_draft_is_tidied_embedded_and_kept_with_its_prompt(store: Store, table: Static) -> None:
    source = "Be brief.   \n\n\n\n<!-- note -->Refunds   need approval by the shift lead."
    draft = Drafter(table).make(source)
    store.drafts.put(draft, source)
    assert store.drafts.get(draft.id) == (
        Message("system", "Be brief.\n\nRefunds need approval by the shift lead."),
    )
    assert store.source(draft.prompt_hash) == source
    (record,) = store.vectors([draft.vector_key])
    assert record is not None
    kept = decode(record, table.width)
    assert kept is not None
    assert float(kept @ table.embed([source])[0]) == pytest.approx(1, abs=1e-2)


def test_a_tidy_prompt_is_kept_once_and_a_chat_keeps_its_turns(store: Store, table: Static) -> None:
    drafter = Drafter(table)
    chat = '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello  you"}]'
    for source, wanted in (
        (PROMPTS[0], (Message("system", PROMPTS[0]),)),
        (chat, (Message("system", "Be brief."), Message("user", "Hello you"))),
    ):
        draft = drafter.make(source)
        assert (draft.messages is None) == (source == PROMPTS[0])
        store.drafts.put(draft, source)
        assert store.drafts.get(draft.id) == wanted


def test_what_is_no_draft_is_said_to_be_none(store: Store, table: Static) -> None:
    with pytest.raises(NotFoundError, match="no draft"):
        store.drafts.get("00ff")
    with pytest.raises(DamageError, match="does not read"):
        Draft.decode("00ff", b'{"prompt": "x"}')
    with pytest.raises(InputError, match="no text"):
        Drafter(table).make("  <!-- pcompiler:keep -->\n<!-- pcompiler:end -->")


def test_collecting_garbage_leaves_a_drafts_prompt_and_a_check_finds_it_whole(
    store: Store, engine: Local
) -> None:
    (outcome,) = engine.run([Entry(PROMPTS[0])])
    store.gc()
    assert store.drafts.get(outcome.id)[0].content == PROMPTS[0]
    store.close()
    report = check(store.path, store.settings)
    assert (report.damage, report.incomplete) == ([], [])


def test_a_draft_that_has_lost_its_prompt_is_told_of(store: Store, engine: Local) -> None:
    (outcome,) = engine.run([Entry(PROMPTS[0])])
    prompt_hash = next(store.drafts.all()).prompt_hash
    store.records.write([("prompts", prompt_hash.encode(), None)])
    with pytest.raises(DamageError, match="lost its prompt"):
        store.drafts.get(outcome.id)
    store.close()
    assert check(store.path, store.settings).incomplete == [outcome.id]


def test_each_content_is_compiled_once_and_every_prompt_has_its_outcome(
    store: Store, engine: Local
) -> None:
    asked = [*PROMPTS[:10], *PROMPTS[:5], "", *PROMPTS[:10], "\ud800"]
    found = sorted(engine.run(map(Entry, asked)), key=lambda o: o.number)
    assert [o.number for o in found] == list(range(len(asked)))
    assert [o.known for o in found] == [False] * 10 + [True] * 5 + [False] + [True] * 10 + [False]
    assert [o.number for o in found if o.error] == [15, 26]
    assert all(o.seconds > 0 for o in found)
    assert {o.id for o in found if not o.error} == {draft.id for draft in store.drafts.all()}
    assert len(list(store.drafts.all())) == 10


def test_a_number_of_processes_out_of_range_is_refused(store: Store, table: Static) -> None:
    with pytest.raises(ConfigError, match="processes 0"):
        Local(Drafts(store, table), 0)


@pytest.mark.model
def test_several_processes_store_what_one_does(tmp_path: Path) -> None:
    asked = [*PROMPTS, *PROMPTS[:5], "", "x  y " * 9_000, *PROMPTS]
    kept = []
    for processes in (1, 3):
        cores = os.sched_getaffinity(0)
        with Store(tmp_path / f"{processes}") as store:
            with Local(Drafts(store), processes) as engine:
                found = list(engine.run(map(Entry, asked)))
                assert len(engine.pids) == processes - 1
            assert os.sched_getaffinity(0) == cores
            assert sorted(o.number for o in found) == list(range(len(asked)))
            assert [o.number for o in found if o.error] == [35]
            families = ("drafts", "prompts", "embeddings")
            kept.append([list(store.records.scan(family)) for family in families])
    assert kept[0] == kept[1]


@pytest.mark.model
def test_a_killed_worker_is_replaced_and_what_it_had_is_compiled_by_others(tmp_path: Path) -> None:
    def asked(engine: Local) -> Iterator[str]:
        for number, prompt in enumerate(PROMPTS):
            if number == 10:
                os.kill(engine.pids[0], signal.SIGKILL)
            yield prompt

    with Store(tmp_path / "s") as store, Local(Drafts(store), 2) as engine:
        first = engine.pids
        found = list(engine.run(map(Entry, asked(engine))))
        assert sorted(o.number for o in found) == list(range(len(PROMPTS)))
        assert not any(o.known or o.error for o in found)
        assert len({o.id for o in found}) == len(list(store.drafts.all())) == len(PROMPTS)
        assert engine.pids != first


def test_outcomes_come_as_prompts_are_taken_not_at_the_end(engine: Local) -> None:
    taken: list[str] = []

    def asked() -> Iterator[str]:
        for prompt in PROMPTS:
            taken.append(prompt)
            yield prompt

    outcomes: Callable[[], Outcome] = engine.run(map(Entry, asked())).__next__
    outcomes()
    assert len(taken) == 1
    assert np.isfinite(outcomes().seconds)
