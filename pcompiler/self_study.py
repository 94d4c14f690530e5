"""Self-study: probes drawn from the model itself, for who has no queries to give."""

from __future__ import annotations

from pcompiler.errors import InputError
from pcompiler.ir import Probe
from pcompiler.runtime.decode import answer_all, sampler
from pcompiler.targets.base import Compilation

_OPENINGS = (
    *("How much", "What is", "When", "Can I", "Where", "Do you", "Is the", "Which"),
    *("What happens if", "How long", "How do I", "Why", "Who", "I have", "Tell me", "What are"),
)
_ROUNDS = 3  # of self-study, before giving up on a model that writes the same query again


def self_study(compilation: Compilation) -> list[Probe]:
    """Queries that the model itself writes, with the prompt in place and the user's turn open.

    An aligned model that is given an open user turn writes what a user would (arXiv 2406.08464);
    a first word or two, a different one for each query, keeps small models to the point and the
    queries apart. Seeded; at most ``probes.self_study`` queries of ``probes.query_tokens`` tokens.

    Raises:
        InputError: the model wrote nothing usable.
    """
    config, model = compilation.config, compilation.model
    wanted, length = config.probes.self_study, config.probes.query_tokens
    found: dict[str, None] = {}  # a set that keeps its order
    for attempt in range(_ROUNDS):
        openings = [_OPENINGS[i % len(_OPENINGS)] for i in range(wanted)]
        turns = [compilation.template.query_opening_ids(opening) for opening in openings]
        pick = sampler(0.8, 0.9, config.compile.seed + attempt)
        written = answer_all(model, compilation.teacher, turns, length, "self-study", pick)
        for opening, answer in zip(openings, written, strict=True):
            rest: str = model.tokenizer.decode(answer.tokens, skip_special_tokens=True)
            if rest.strip():  # not just the opening again
                found[(opening + rest).strip().split("\n\n")[0].strip()] = None
        if len(found) >= wanted:
            break
    if not found:
        raise InputError("the model wrote no usable query for this prompt; give --queries FILE.")
    return [Probe(query) for query in list(found)[:wanted]]
