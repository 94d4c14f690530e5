import csv
import itertools
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from benches import ladder_data
from benches.ladder_contexts import EXAMPLES, LadderContext, contexts, example
from pcompiler.frontend import parse
from pcompiler.template import Template

KINDS = {"squad": 4, "role": 4, "few-shot": 3, "look-up": 2, "support": 1}


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _paragraph(title: str, number: int) -> dict[str, Any]:
    questions = [f"Question {q} about part {number} of {title}?" for q in range(3 + number % 3)]
    text = f"Part {number} of {title}. " + "It goes on at some length. " * 15
    qas = [{"question": q, "answers": [f"Part {number}", title]} for q in questions]
    return {"title": title, "context": text, "qas": qas}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Made-up files in the form of the public ones."""
    parts = [_paragraph(title, n) for title in ladder_data.ARTICLES for n in range(9)]
    parts[0]["qas"] *= 2  # the same questions twice, as the data set has it
    _lines(tmp_path / "squad_dev.jsonl", parts)
    with (tmp_path / "prompts_cc0.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["act", "prompt", "for_devs"])
        writer.writeheader()
        for act in itertools.chain(*ladder_data.ROLES.values()):
            writer.writerow({"act": act, "prompt": f'Act as "{act}",\nplease.', "for_devs": "TRUE"})
    turns = [{"turns": [f"Please tell me about thing {n}.", "And?"]} for n in range(60)]
    _lines(tmp_path / "mt_bench_questions.jsonl", [*turns, {"turns": ["Why? " * 200, "And?"]}])
    sums = [
        {
            "question": f"What is {n} + {n}? " + "Think. " * (n % 60),
            "answer": f"It is <<{n}+{n}={2 * n}>>{2 * n}.\n#### {n}",
        }
        for n in range(90)
    ]
    _lines(tmp_path / "gsm8k.jsonl", sums)
    ids = [str(uuid.UUID(int=n * 2**64)) for n in range(80)]
    pairs = [list(pair) for pair in zip(ids[:40], ids[40:], strict=True)]
    _lines(tmp_path / "kv_retrieval.jsonl", [{"ordered_kv_records": pairs[n:]} for n in (0, 20)])
    return tmp_path


def _check(context: LadderContext) -> None:
    everything = (*context.fit, *context.held_out, *context.uncovered)
    assert len(set(everything)) == len(everything), "disjoint, and nothing twice"
    assert context.fit, context.name
    assert context.held_out, context.name
    assert parse(context.source).messages[0].role == "system"


def test_the_projects_own_contexts_need_no_data() -> None:
    own = contexts(None)
    assert [c.name for c in own] == ["library_host", "order_lines", "support_desk"]
    for context in own:
        _check(context)
        assert len(context.fit) >= 20
        assert len(context.held_out) >= 20


def test_every_kind_is_made_from_data(data: Path) -> None:
    made = contexts(data)
    assert {kind: sum(c.kind == kind for c in made) for kind in KINDS} == KINDS
    assert len({c.name for c in made}) == len(made)
    for context in made:
        _check(context)


def test_the_split_is_the_same_on_every_call(data: Path) -> None:
    assert contexts(data) == contexts(data)
    assert contexts(None) == contexts(data)[: len(contexts(None))]


def test_uncovered_questions_are_all_those_of_whole_paragraphs(data: Path) -> None:
    parts = ladder_data._json_lines(data / "squad_dev.jsonl")
    for context in contexts(data):
        if context.kind == "squad":
            asked = [{qa["question"] for qa in p["qas"]} for p in parts]
            hidden = [a for a in asked if a & set(context.uncovered)]
            assert set().union(*hidden) == set(context.uncovered)
            fitted = [a for a in asked if a & set(context.fit)]
            assert all(a & set(context.held_out) for a in fitted)
            assert len(hidden) in (1, 2)


def test_the_right_answers_to_an_articles_questions_are_known(data: Path) -> None:
    for context in contexts(data):
        asked = {*context.fit, *context.held_out, *context.uncovered}
        assert set(context.gold) == (asked if context.kind == "squad" else set())
        assert all(len(answers) == 2 for answers in context.gold.values())


def test_uncovered_keys_are_in_the_prompt_and_in_no_fit_query(data: Path) -> None:
    for context in contexts(data):
        if context.kind == "look-up":
            system, *turns = json.loads(context.source)
            pairs = json.loads(system["content"].split("```")[1].removeprefix("json"))
            shown = {key for key in pairs if any(key in turn["content"] for turn in turns)}
            fitted = {key for key in pairs if any(key in query for query in context.fit)}
            measured = {key for key in pairs if any(key in query for query in context.uncovered)}
            assert fitted | measured | shown == set(pairs)
            assert len(fitted) + len(measured) + len(shown) == len(pairs)
            assert all(any(key in query for key in fitted) for query in context.held_out)


def test_no_query_is_a_worked_example_of_its_prompt(data: Path) -> None:
    for context in contexts(data):
        if context.name.startswith("gsm8k"):
            shown = {turn["content"] for turn in json.loads(context.source)}
            assert not shown & {*context.fit, *context.held_out}
            assert ("<<" in context.source) == (context.name == "gsm8k_calculator")


def test_long_first_turns_are_left_out(data: Path) -> None:
    queries = [q for c in contexts(data) if c.kind == "role" for q in (*c.fit, *c.held_out)]
    assert max(map(len, queries)) <= ladder_data.QUERY_CHARACTERS


def test_a_file_that_lacks_a_prompt_is_named(data: Path) -> None:
    (data / "prompts_cc0.csv").write_text("act,prompt,for_devs\nBuddha,Be kind.,FALSE\n")
    with pytest.raises(ValueError, match=r"prompts_cc0\.csv: no prompt for Architect"):
        contexts(data)


def test_an_uncovered_query_must_be_one_that_is_measured(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("Be kind.")
    (tmp_path / "q.jsonl").write_text('{"query": "Are you?"}\n')
    spec = {"kind": "role", "source": "p.md", "queries": "q.jsonl", "fit": ["Hello"]}
    path = tmp_path / "p.context.json"
    path.write_text(json.dumps(spec | {"uncovered": ["Are you not?"]}))
    with pytest.raises(ValueError, match="Are you not"):
        example(path)


@pytest.mark.model
def test_the_projects_own_contexts_have_the_stated_lengths(smollm2: Any) -> None:
    lengths = {
        c.name: len(Template.of(smollm2.tokenizer, parse(c.source).messages).context_ids())
        for c in contexts(None)
    }
    assert 400 <= lengths["library_host"] <= 600
    assert 450 <= lengths["order_lines"] <= 650
    assert 1000 <= lengths["support_desk"] <= 1200


def test_every_example_file_belongs_to_a_context() -> None:
    used = set(EXAMPLES.glob("*.context.json"))
    for path in list(used):
        spec = json.loads(path.read_text(encoding="utf-8"))
        used |= {path.parent / spec["source"], path.parent / spec["queries"]}
    assert set(EXAMPLES.iterdir()) <= used
