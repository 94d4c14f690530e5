"""Self-study: probes drawn from the prompt and the model itself."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from pcompiler.config import FITTING, ProbeConfig
from pcompiler.errors import InputError
from pcompiler.ir import Probe, Prompt
from pcompiler.model import LanguageModel
from pcompiler.passages import passages, questions
from pcompiler.ranges import ranged
from pcompiler.runtime.decode import answer_all, sampler
from pcompiler.runtime.prefix import Prefix
from pcompiler.template import Template

_OPENINGS = (
    *("How much", "What is", "When", "Can I", "Where", "Do you", "Is the", "Which"),
    *("What happens if", "How long", "How do I", "Why", "Who", "I have", "Tell me", "What are"),
)
_ROUNDS = 3  # of writing, before giving up on a model that writes the same query again
_WRITTEN_SHARE = 8  # one in so many fitting probes: a small model strays from the prompt
_ALIKE_SHARE = 2  # one in so many, where there are queries of the user's to write more like
_SHOWN, _SHOWN_CHARACTERS = 4, 400  # of them at once, and of each at most
_LEAST_CHARACTERS = 8  # of a query
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
    user's own, where some are ``given``.
    """
    count, length, own_seed = config.to_fit, config.query_tokens, seed + _FITTING_SEED
    alike = min(count // _ALIKE_SHARE, max(0, count - FITTING)) if given else 0
    like = more_like(model, template, teacher, given, alike, length, own_seed) if alike else []
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
