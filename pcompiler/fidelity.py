"""How faithful a student is to its teacher: KL and agreement on the teacher's own answers.

Both are taken with the student reading the teacher's answer (teacher forcing), so that every
token is compared after the same history: KL(teacher ‖ student) = Σ_v p(v) ln(p(v) / q(v)).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from pcompiler import progress
from pcompiler.device import widened
from pcompiler.ir import Fidelity, Probe
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.decode import Answer, answer_all, score
from pcompiler.runtime.prefix import Prefix, nothing
from pcompiler.targets.base import Compilation

KEEP_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Distance:
    """A student's distance from the teacher, probe by probe.

    Attributes:
        kl: summed over each probe's answer tokens, nats.
        same: of each probe the answer tokens with the teacher's argmax.
        tokens: of each probe the answer tokens.
    """

    kl: list[float] = field(default_factory=list)
    same: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def means(self, probes: Collection[int] | None = None) -> tuple[float, float]:
        """KL and agreement over the answer tokens of all probes, or of some."""
        of = range(len(self.kl)) if probes is None else probes
        total = sum(self.tokens[i] for i in of)
        return sum(self.kl[i] for i in of) / total, sum(self.same[i] for i in of) / total


@dataclass(frozen=True)
class Reference:
    """The teacher's answers to the probes, and how far the model without the prompt is from them.

    Attributes:
        teacher: the model with the full prompt.
        queries: token ids of each query's turn, after a prompt.
        bare: the same with no prompt before it.
        answers: the teacher's greedy answers, with log-probabilities if they are few enough.
        no_prompt: the bound that an artifact has to beat.
    """

    teacher: Prefix
    queries: list[list[int]]
    bare: list[list[int]]
    answers: list[Answer]
    no_prompt: Distance

    @property
    def answer_tokens(self) -> int:
        """Tokens that the means are over."""
        return sum(len(answer.tokens) for answer in self.answers)


@ranged("fidelity: teacher")
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
    known = Reference(teacher, queries, bare, answers, Distance())
    return replace(known, no_prompt=compare(model, nothing(model), known, "no prompt"))


@ranged("fidelity: compare")
def compare(model: LanguageModel, student: Prefix, teacher: Reference, label: str) -> Distance:
    """The distance of a student, which answers after ``student`` instead of the full prompt."""
    queries = teacher.queries if student.length else teacher.bare
    answers = [answer.tokens for answer in teacher.answers]
    found = Distance()
    pairs = zip(_log_p(model, teacher), score(model, student, queries, answers), strict=True)
    with progress.bar(len(queries), label, "probe") as shown:
        for p, q in pairs:
            found.kl.append(float(widened(p.exp() * (p - q)).sum()))
            found.same.append(int((p.argmax(-1) == q.argmax(-1)).sum()))
            found.tokens.append(len(p))
            shown.update()
    return found


def measure(
    model: LanguageModel, student: Prefix, teacher: Reference, uncovered: Collection[int] = ()
) -> Fidelity:
    """The student's distance and the bound, as an artifact records them.

    Args:
        model: the language model.
        student: what stands in for the prompt.
        teacher: what it is compared with.
        uncovered: numbers of the probes that are also to be reported apart.
    """
    distance = compare(model, student, teacher, "fidelity")
    (kl, agreement), (kl_none, agreement_none) = distance.means(), teacher.no_prompt.means()
    apart = distance.means(uncovered) if uncovered else (None, None)
    return Fidelity(
        kl=kl,
        agreement=agreement,
        kl_no_prompt=kl_none,
        agreement_no_prompt=agreement_none,
        answer_tokens=teacher.answer_tokens,
        probes=len(teacher.queries),
        kl_uncovered=apart[0],
        agreement_uncovered=apart[1],
        probes_uncovered=len(uncovered),
    )


def _log_p(model: LanguageModel, teacher: Reference) -> Iterator[torch.Tensor]:
    """The teacher's log-probabilities: as kept, or else scored again, a pack at a time."""
    kept = [answer.log_p for answer in teacher.answers if answer.log_p is not None]
    if len(kept) == len(teacher.answers):
        return iter(kept)
    tokens = [answer.tokens for answer in teacher.answers]
    return score(model, teacher.teacher, teacher.queries, tokens)
