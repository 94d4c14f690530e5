"""How faithful a student is to its teacher: KL and agreement on the teacher's own answers.

Both are taken with the student reading the teacher's answer (teacher forcing), so that every
token is compared after the same history: KL(teacher ‖ student) = Σ_v p(v) ln(p(v) / q(v)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pcompiler import progress
from pcompiler.ir import Fidelity, Probe
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import score, steps
from pcompiler.runtime.prefix import Prefix, nothing
from pcompiler.targets.base import Compilation


@dataclass(frozen=True)
class Distance:
    """A student's distance from the teacher: means over answer tokens."""

    kl: float
    agreement: float


@dataclass(frozen=True)
class Reference:
    """The teacher's answers to the probes, and how far the model without the prompt is from them.

    Attributes:
        queries: token ids of each query's turn.
        answers: token ids of the teacher's greedy answer to each, stop token included.
        log_p: the teacher's log-probabilities there, (T_i, V) each.
        no_prompt: the bound that an artifact has to beat.
    """

    queries: list[list[int]]
    answers: list[list[int]]
    log_p: list[torch.Tensor]
    no_prompt: Distance

    @property
    def answer_tokens(self) -> int:
        """Tokens that the means are over."""
        return sum(map(len, self.answers))


def reference(compilation: Compilation, probes: Sequence[Probe]) -> Reference:
    """Let the teacher answer, and the model without the prompt be compared with it.

    The teacher's log-probabilities are kept from decoding: 4·T·V bytes (40 answers of 24 tokens
    of SmolLM2: 190 MB), and no second pass.

    Raises:
        InputError: a query that does not fit the model's window with the prompt.
    """
    model, template = compilation.model, compilation.template
    limit = compilation.config.probes.answer_tokens
    queries = compilation.query_ids(probes)
    answers: list[list[int]] = [[] for _ in queries]
    rows: list[list[torch.Tensor]] = [[] for _ in queries]
    with progress.bar(limit, "teacher's answers", "token") as shown:
        for step in steps(model, compilation.teacher, queries, limit):
            for i, row in enumerate(step.rows):
                answers[row].append(step.tokens[i])
                rows[row].append(step.logits[i].log_softmax(-1))
            shown.update()
    log_p = [torch.stack(r) for r in rows]
    bare = [template.bare_ids(probe.query) for probe in probes]
    no_prompt = _distance(model, nothing(model), bare, answers, log_p, "no prompt")
    return Reference(queries, answers, log_p, no_prompt)


def compare(model: LanguageModel, student: Prefix, teacher: Reference, label: str) -> Distance:
    """The distance of a student, which answers after ``student`` instead of the full prompt."""
    return _distance(model, student, teacher.queries, teacher.answers, teacher.log_p, label)


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
    answers: list[list[int]],
    log_p: list[torch.Tensor],
    label: str,
) -> Distance:
    kl, same, tokens = 0.0, 0, 0
    with progress.bar(len(queries), label, "probe") as shown:
        for p, q in zip(log_p, score(model, student, queries, answers), strict=True):
            kl += float((p.exp() * (p - q)).sum(dtype=torch.float64))
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            tokens += len(p)
            shown.update()
    return Distance(kl / tokens, same / tokens)
