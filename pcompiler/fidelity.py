"""How faithful a student is to its teacher: KL and agreement on the teacher's own answers.

Both are taken with the student reading the teacher's answer (teacher forcing), so that every
token is compared after the same history: KL(teacher ‖ student) = Σ_v p(v) ln(p(v) / q(v)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from pcompiler import progress
from pcompiler.ir import Fidelity, Probe
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import Answer, answer_all, score
from pcompiler.runtime.prefix import Prefix, nothing
from pcompiler.targets.base import Compilation

KEEP_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Distance:
    """A student's distance from the teacher: means over answer tokens."""

    kl: float
    agreement: float


@dataclass(frozen=True)
class Reference:
    """The teacher's answers to the probes, and how far the model without the prompt is from them.

    Attributes:
        teacher: the model with the full prompt.
        queries: token ids of each query's turn.
        answers: the teacher's greedy answers, with log-probabilities if they are few enough.
        no_prompt: the bound that an artifact has to beat.
    """

    teacher: Prefix
    queries: list[list[int]]
    answers: list[Answer]
    no_prompt: Distance

    @property
    def answer_tokens(self) -> int:
        """Tokens that the means are over."""
        return sum(len(answer.tokens) for answer in self.answers)


def reference(compilation: Compilation, probes: Sequence[Probe]) -> Reference:
    """Let the teacher answer, and the model without the prompt be compared with it.

    The teacher's log-probabilities are kept from decoding where 4·T·V bytes are few (40 answers
    of 24 tokens of SmolLM2: 190 MB); past ``KEEP_BYTES`` they are computed anew for each student,
    so that memory does not grow with the number of probes.

    Raises:
        InputError: a query that does not fit the model's window with the prompt.
    """
    model, template = compilation.model, compilation.template
    limit, teacher = compilation.config.probes.answer_tokens, compilation.teacher
    queries = compilation.query_ids(probes)
    keep = 4 * len(queries) * limit * model.card.vocabulary <= KEEP_BYTES
    answers = answer_all(model, teacher, queries, limit, "teacher's answers", keep_log_p=keep)
    bare = [template.bare_ids(probe.query) for probe in probes]
    known = Reference(teacher, queries, answers, no_prompt=Distance(0.0, 0.0))
    return replace(known, no_prompt=_distance(model, nothing(model), bare, known, "no prompt"))


def compare(model: LanguageModel, student: Prefix, teacher: Reference, label: str) -> Distance:
    """The distance of a student, which answers after ``student`` instead of the full prompt."""
    return _distance(model, student, teacher.queries, teacher, label)


def measure(model: LanguageModel, student: Prefix, teacher: Reference) -> Fidelity:
    """The student's distance and the bound, as an artifact records them."""
    distance = compare(model, student, teacher, "fidelity")
    return Fidelity(
        kl=distance.kl,
        agreement=distance.agreement,
        kl_no_prompt=teacher.no_prompt.kl,
        agreement_no_prompt=teacher.no_prompt.agreement,
        answer_tokens=teacher.answer_tokens,
        probes=len(teacher.queries),
    )


def _distance(
    model: LanguageModel,
    student: Prefix,
    queries: list[list[int]],
    teacher: Reference,
    label: str,
) -> Distance:
    answers = [answer.tokens for answer in teacher.answers]
    kl, same = 0.0, 0
    pairs = zip(_log_p(model, teacher), score(model, student, queries, answers), strict=True)
    with progress.bar(len(queries), label, "probe") as shown:
        for p, q in pairs:
            kl += float((p.exp() * (p - q)).sum(dtype=torch.float64))
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            shown.update()
    return Distance(kl / teacher.answer_tokens, same / teacher.answer_tokens)


def _log_p(model: LanguageModel, teacher: Reference) -> Iterator[torch.Tensor]:
    """The teacher's log-probabilities: as kept, or else scored again, a pack at a time."""
    kept = [answer.log_p for answer in teacher.answers if answer.log_p is not None]
    if len(kept) == len(teacher.answers):
        return iter(kept)
    tokens = [answer.tokens for answer in teacher.answers]
    return score(model, teacher.teacher, teacher.queries, tokens)
