"""Self-study: probes drawn from the prompt and the model itself."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import torch

from pcompiler.config import FITTING, ProbeConfig
from pcompiler.errors import InputError
from pcompiler.general_requests import general_requests
from pcompiler.ir import Probe, Prompt
from pcompiler.model import LanguageModel
from pcompiler.passages import passages, questions
from pcompiler.ranges import ranged
from pcompiler.runtime.decode import answer_all, sampler, score
from pcompiler.runtime.prefix import Prefix, nothing
from pcompiler.template import Template

_OPENINGS = (
    *("How much", "What is", "When", "Can I", "Where", "Do you", "Is the", "Which"),
    *("What happens if", "How long", "How do I", "Why", "Who", "I have", "Tell me", "What are"),
)
_ROUNDS = 3  # of writing, before giving up on a model that writes the same query again
_WRITTEN_SHARE = 8  # one in so many fitting probes: a small model strays from the prompt
_ALIKE_SHARE = 0.5  # of them, where there are queries of the user's to write more like
_GENERAL_SHARE = 0.75  # of them, where the user's queries are not about the prompt
_SHOWN, _SHOWN_CHARACTERS = 4, 400  # of them at once, and of each at most
_LEAST_CHARACTERS = 8  # of a query
_FORETELLS = 0.15  # nats a token: roles have up to 0.1, worked problems 0.25, facts 0.7 to 3
_HEARD, _HEARD_TOKENS = 32, 64  # queries that tell this at most, and tokens of each
_FITTING_SEED = 1_000_003  # fitting probes and held-out probes are drawn apart


def held_out(
    model: LanguageModel, template: Template, teacher: Prefix, config: ProbeConfig, seed: int
) -> list[Probe]:
    """Queries to measure on, for who has none: the model writes them; see ``write``.

    Raises:
        InputError: the model wrote nothing usable.
    """
    found = write(model, template, teacher, config.self_study, config.query_tokens, seed)
    if not found:
        raise InputError("the model wrote no usable query for this prompt; give --queries FILE.")
    return [Probe(query) for query in found]


def fitting(
    prompt: Prompt,
    model: LanguageModel,
    template: Template,
    teacher: Prefix,
    config: ProbeConfig,
    seed: int,
    given: Sequence[str] = (),
    taken: Collection[str] = (),
) -> list[Probe]:
    """Queries to fit on that cover the prompt; none of those that are ``taken`` for measuring.

    Most are questions about each passage in turn, in several forms; the model writes the rest, and
    all of them where the prompt states nothing to ask about. Of many, up to half are like the
    user's own, where some are ``given``; or three quarters general, if it foretells none of these.
    """
    count, length, own_seed = config.to_fit, config.query_tokens, seed + _FITTING_SEED
    room, like = max(0, count - FITTING) if given else 0, list[str]()
    if room and foretold(model, template, teacher, given, seed) < _FORETELLS:
        like = general_requests(min(round(count * _GENERAL_SHARE), room), own_seed)
    elif room:
        alike = min(round(count * _ALIKE_SHARE), room)
        like = more_like(model, template, teacher, given, alike, length, own_seed)
    count -= len(like)
    about = questions(passages(prompt), count - count // _WRITTEN_SHARE, seed)
    rest = count - len(about)
    written = write(model, template, teacher, rest, length, own_seed) if rest else []
    unique = dict.fromkeys([*about, *written, *like])
    return [Probe(query) for query in unique if query not in taken]


@ranged("self-study")
def write(
    model: LanguageModel,
    template: Template,
    teacher: Prefix,
    count: int,
    length: int,
    seed: int,
) -> list[str]:
    """Queries that the model itself writes, with the prompt in place and the user's turn open.

    An aligned model that is given an open user turn writes what a user would (arXiv 2406.08464);
    a first word or two, a different one for each query, keeps small models to the point and the
    queries apart. Seeded; at most ``count`` queries of ``length`` tokens.
    """
    found: dict[str, None] = {}  # a set that keeps its order
    for attempt in range(_ROUNDS):
        missing = count - len(found)
        openings = [_OPENINGS[(attempt + i) % len(_OPENINGS)] for i in range(missing)]
        turns = [template.query_opening_ids(opening) for opening in openings]
        pick = sampler(0.8, 0.9, seed + attempt)
        written = answer_all(model, teacher, turns, length, "self-study", pick)
        for opening, answer in zip(openings, written, strict=True):
            rest: str = model.tokenizer.decode(answer.tokens, skip_special_tokens=True)
            if rest.strip():  # not just the opening again
                found[(opening + rest).strip().split("\n\n")[0].strip()] = None
        if len(found) >= count:
            break
    return list(found)


def foretold(
    model: LanguageModel,
    template: Template,
    teacher: Prefix,
    given: Sequence[str],
    seed: int,
) -> float:
    """How much likelier the prompt makes the given queries: nats a token, mean over queries.

    Their pointwise mutual information with the prompt; near 0 where it tells how to answer and
    nothing of what is asked. Of a seeded sample of them, and of their first tokens.
    """
    pick = random.Random(seed)  # noqa: S311 - not for secrets
    some = pick.sample(list(given), min(len(given), _HEARD))
    after_it, alone = (
        _log_likelihood(model, prefix, opening_ids(""), list(map(opening_ids, some)))
        for prefix, opening_ids in (
            (teacher, template.query_opening_ids),
            (nothing(model), template.bare_opening_ids),
        )
    )
    return after_it - alone


def _log_likelihood(
    model: LanguageModel, prefix: Prefix, opening: list[int], turns: Sequence[list[int]]
) -> float:
    """Mean log-probability of what follows the opening of a turn, nats a token."""
    start = max(1, len(opening))
    said = [turn[start : start + _HEARD_TOKENS] for turn in turns]
    scores = score(model, prefix, [turn[:start] for turn in turns], said)
    means = [log_p[range(len(ids)), ids].mean() for log_p, ids in zip(scores, said, strict=True)]
    return float(torch.stack(means).mean())


def more_like(
    model: LanguageModel,
    template: Template,
    teacher: Prefix,
    given: Sequence[str],
    count: int,
    length: int,
    seed: int,
) -> list[str]:
    """Queries in the manner of those given: the model goes on with a list, the prompt in place.

    What is fitted has to look like the queries to come. The list is some of the given queries in
    one user's turn, others each time; lists that pass the model's window are left out. Seeded; at
    most ``count`` queries of ``length`` tokens.
    """
    pick = random.Random(seed)  # noqa: S311 - not for secrets
    lines = [f"- {' '.join(query.split())[:_SHOWN_CHARACTERS]}\n" for query in given]
    shown, room = min(_SHOWN, len(lines)), model.window - teacher.length - length
    lists = ("".join(pick.sample(lines, shown)) + "-" for _ in range(count))
    turns = [turn for turn in map(template.query_opening_ids, lists) if len(turn) <= room]
    written = answer_all(
        model, teacher, turns, length, "more like the user's", sampler(1.0, 0.95, seed)
    )
    found: dict[str, None] = {}
    for answer in written:
        text: str = model.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        if len(line := text.strip().split("\n")[0].strip(" -*")) >= _LEAST_CHARACTERS:
            found[line] = None
    return [query for query in found if query not in given]
