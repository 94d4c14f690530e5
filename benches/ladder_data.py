"""Ladder contexts from public data sets: articles, roles, worked problems, look-ups.

The folder holds squad_dev.jsonl (title, context, qas), prompts_cc0.csv (act, prompt),
mt_bench_questions.jsonl (turns), gsm8k.jsonl (question, answer) and kv_retrieval.jsonl
(ordered_kv_records). Every choice is seeded by the context's name.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benches.ladder_contexts import LadderContext

Row = dict[str, Any]

MEASURED = 24  # held-out queries of one context, at most
FITTED = 32  # fit queries of one context, at most
# Characters that come to about 1,000 tokens of SmolLM2: prose has 4.7 a token, sums 2.8.
ARTICLE_CHARACTERS = 4800
SHOTS, SHOT_CHARACTERS = 6, range(360, 480)  # of question and answer together
QUERY_CHARACTERS = 400  # longer first turns and problems would cost more than the prompt
PAIRS = 11  # of UUIDs, 69 tokens each; three of them are asked for in the prompt

ARTICLES = ("European_Union_law", "Packet_switching", "Huguenot", "Steam_engine")
ROLES = {
    "architect": ("Architect Guide for Programmers",),
    "buddha": ("Buddha",),
    "panel": (
        "Philosophy Teacher",
        "Chef",
        "Financial Analyst",
        "Cyber Security Specialist",
        "Relationship Coach",
        "Storyteller",
    ),
}
LOOK_UP_FIT = ('What is the value of "{}"?', "I need the entry for {}.", "{}")
LOOK_UP_MEASURED = (
    "Give me the value that is stored under {}.",
    'Please look up "{}" for me.',
    'Which value belongs to the key "{}"?',
)


def contexts(data: Path) -> list[LadderContext]:
    """Four articles, three roles, two few-shot prompts, two look-ups.

    Raises:
        OSError, ValueError: a file is not there, or lacks what is taken from it.
    """
    return [*_articles(data), *_roles(data), *_worked_problems(data), *_look_ups(data)]


def _articles(data: Path) -> Iterator[LadderContext]:
    """Of each article the paragraphs with the most questions for their length, in order."""
    rows = _json_lines(data / "squad_dev.jsonl")
    for title in ARTICLES:
        paragraphs = [row for row in rows if row["title"] == title]
        ranked = sorted(paragraphs, key=lambda p: -len(p["qas"]) / len(p["context"]))
        chosen = _within(ranked, ARTICLE_CHARACTERS, lambda p: len(p["context"]))
        _require(len(chosen) > 2, f"squad_dev.jsonl: too few paragraphs of {title}")
        chosen.sort(key=paragraphs.index)
        text = "\n\n".join(p["context"] for p in chosen)
        intro = "Answer the user's questions about the article below, briefly and only from it."
        source = f"{intro}\n\n# {title.replace('_', ' ')}\n\n{text}\n"
        name = f"squad_{title.lower()}"
        queries = _split_questions(chosen, name)
        yield LadderContext(name, "squad", source, *queries, gold=_gold(chosen))


def _gold(paragraphs: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """The answers to each question; those of both where it is asked twice."""
    found: dict[str, list[str]] = {}
    for qa in (qa for paragraph in paragraphs for qa in paragraph["qas"]):
        found.setdefault(qa["question"].strip(), []).extend(qa["answers"])
    return {question: tuple(dict.fromkeys(answers)) for question, answers in found.items()}


def _split_questions(paragraphs: Sequence[Row], seed: str) -> tuple[tuple[str, ...], ...]:
    """Fit, held out, uncovered: one or two whole paragraphs, and 3 of 5 of the others' questions.

    Every covered paragraph has questions on both sides.
    """
    rng = random.Random(seed)
    first_asked: dict[str, int] = {}
    for i, paragraph in enumerate(paragraphs):
        for qa in paragraph["qas"]:
            first_asked.setdefault(qa["question"].strip(), i)  # some are asked twice
    asked = [[q for q, i in first_asked.items() if i == n] for n in range(len(paragraphs))]
    order = rng.sample(range(len(asked)), len(asked))
    hidden = order[: 1 if len(asked[order[0]]) >= 7 else 2]
    fit, held_out = list[str](), list[str]()
    for questions in (asked[i] for i in sorted(order[len(hidden) :])):
        rng.shuffle(questions)
        cut = max(1, round(0.4 * len(questions)))
        fit += questions[:cut]
        held_out += questions[cut:]
    rng.shuffle(held_out)
    uncovered = [q for i in sorted(hidden) for q in asked[i]]
    return (*fit, *held_out[MEASURED:]), tuple(held_out[:MEASURED]), tuple(uncovered)


def _roles(data: Path) -> Iterator[LadderContext]:
    """Role prompts, one of them a panel of six; MT-Bench's shorter first turns are the queries."""
    with (data / "prompts_cc0.csv").open(encoding="utf-8", newline="") as file:
        prompts = {row["act"]: row["prompt"].strip() for row in csv.DictReader(file)}
    turns = [row["turns"][0] for row in _json_lines(data / "mt_bench_questions.jsonl")]
    for name, acts in ROLES.items():
        missing = [act for act in acts if act not in prompts]
        _require(not missing, f"prompts_cc0.csv: no prompt for {', '.join(missing)}")
        parts = [prompts[act] for act in acts]
        if len(acts) > 1:
            parts = [f"## {act}\n\n{part}" for act, part in zip(acts, parts, strict=True)]
            parts.insert(0, "You are a panel; the member who knows most about a question answers.")
        source = "\n\n".join(parts) + "\n"
        yield LadderContext(f"role_{name}", "role", source, *_split(turns, f"role {name}"))


def _worked_problems(data: Path) -> Iterator[LadderContext]:
    """Worked problems as earlier turns, other problems as queries.

    The two prompts have other problems, and one shows every sum twice, as the data set does. As
    turns and not in the system text, because a small model takes up their form only so.
    """
    rows = _json_lines(data / "gsm8k.jsonl")
    task = "Solve the user's problem step by step. Put the result on the last line, after ####."
    for name, annotated in (("gsm8k_steps", False), ("gsm8k_calculator", True)):
        shuffled = random.Random(name).sample(rows, len(rows))
        solved = [(row["question"], row["answer"]) for row in shuffled]
        if not annotated:
            solved = [(q, re.sub(r"<<.*?>>", "", a)) for q, a in solved]
        shots = [(q, a) for q, a in solved if len(q + a) in SHOT_CHARACTERS][:SHOTS]
        _require(len(shots) == SHOTS, "gsm8k.jsonl: too few problems of middle length")
        sets = _split((q for q, a in solved if (q, a) not in shots), name)
        yield LadderContext(name, "few-shot", _chat(task, shots), *sets)


def _look_ups(data: Path) -> Iterator[LadderContext]:
    """JSON objects of UUIDs; half the keys are fitted, and measured again in other words.

    Three keys are looked up in the prompt, in the forms of the fit queries, so that the model
    answers with a value at once. SmolLM2 seldom finds the right one, but nearly all of what it
    says is copied from the prompt: a test of exact recall all the same.
    """
    rows = _json_lines(data / "kv_retrieval.jsonl")
    task = "Look up the user's key in the JSON object below and answer with its value only."
    for number in (0, 1):
        _require(len(rows) > number, "kv_retrieval.jsonl: too few rows")
        pairs = dict(rows[number]["ordered_kv_records"][:PAIRS])
        keys = random.Random(f"look-up {number}").sample(sorted(pairs), len(pairs))
        shown = len(LOOK_UP_FIT)
        turns = [(f.format(k), pairs[k]) for f, k in zip(LOOK_UP_FIT, keys[:shown], strict=True)]
        half = shown + (len(keys) - shown) // 2
        known, other = keys[shown:half], keys[half:]
        source = _chat(f"{task}\n\n```json\n{json.dumps(pairs, indent=1)}\n```", turns)
        asked = (_ask(known, LOOK_UP_FIT), *(_ask(k, LOOK_UP_MEASURED) for k in (known, other)))
        yield LadderContext(f"look_up_{number + 1}", "look-up", source, *asked)


def _chat(task: str, turns: Iterable[tuple[str, str]]) -> str:
    """Chat messages as JSON: the task, then pairs of a user's turn and its answer."""
    messages = [("system", task)]
    for query, answer in turns:
        messages += [("user", query), ("assistant", answer)]
    return json.dumps([{"role": role, "content": text} for role, text in messages], indent=1)


def _ask(keys: Sequence[str], forms: Sequence[str]) -> tuple[str, ...]:
    return tuple(form.format(key) for form in forms for key in keys)


def _split(queries: Iterable[str], seed: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fit and held out, of the shorter queries; each about half while these are few."""
    distinct = list(dict.fromkeys(q.strip() for q in queries if len(q) <= QUERY_CHARACTERS))
    _require(len(distinct) > 1, f"too few queries for {seed}")
    random.Random(seed).shuffle(distinct)
    cut = min(MEASURED, len(distinct) // 2)
    return tuple(distinct[cut : cut + FITTED]), tuple(distinct[:cut])


def _within(items: Iterable[Any], budget: int, size: Callable[[Any], int]) -> list[Any]:
    """Items in order, without those that would pass the budget."""
    taken: list[Any] = []
    for item in items:
        if size(item) <= budget:
            taken.append(item)
            budget -= size(item)
    return taken


def _json_lines(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _require(ok: bool, what: str) -> None:
    if not ok:
        raise ValueError(f"{what}.")
