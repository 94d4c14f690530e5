"""Runs kvpress in its own environment, on a context of the ladder.

python -m benches.peers.run_kvpress --python ENVIRONMENT/bin/python --factors 5 10 20
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.ladder_contexts import LadderContext, contexts
from benches.peers import environment
from pcompiler import embedded, fidelity
from pcompiler.config import Config
from pcompiler.frontend import parse
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.targets.base import Compilation

Job = dict[str, Any]

SCRIPT = Path(__file__).with_name("kvpress_peer.py")
PRESSES = ("snapkv", "expected_attention", "kvzip")
SNAPKV_WINDOW = 64  # tokens at the end that its scores come from; kvpress's default


def kvpress(python: Path, model_folder: Path, job: Job) -> list[dict[str, Any]]:
    """Run the presses of a job; see ``kvpress_peer`` for the job and the rows.

    Args:
        python: interpreter of the environment that has kvpress.
        model_folder: a transformers model in safetensors.
        job: context, queries and answers as token ids, and the presses.

    Returns:
        The rows; none, with a line on standard error, where that environment is not there.

    Raises:
        RuntimeError: the peer failed; with the end of what it said.
    """
    rows: list[dict[str, Any]] | None = environment.run(
        "kvpress", python, SCRIPT, model_folder, job
    )
    return rows or []


def presses(names: Sequence[str], factors: Sequence[float], tokens: int) -> list[Job]:
    """Every press at every factor, for a context of so many tokens.

    SnapKV always keeps its window; where that would be more than half of what may be kept, the
    window is made that half, or else at high factors it would keep nothing but the prompt's end.
    """
    made = []
    for name in names:
        for factor in factors:
            window = max(1, min(SNAPKV_WINDOW, int(tokens / factor) // 2))
            options = {"window_size": window} if name == "snapkv" else {}
            made.append({"name": name, "factor": factor, "options": options})
    return made


def job(compilation: Compilation, teacher: fidelity.Reference, wanted: Sequence[Job]) -> Job:
    """What the peer is given: the same tokens that our own students see."""
    answers = [answer.tokens for answer in teacher.answers]
    parts = {"context": compilation.context, "queries": teacher.queries, "answers": answers}
    return parts | {"presses": list(wanted)}


def measure(
    python: Path,
    context: LadderContext,
    model: LanguageModel,
    names: Sequence[str],
    factors: Sequence[float],
) -> list[dict[str, Any]]:
    """The peer's rows on the held-out queries of one context, for the embedded model."""
    compilation = Compilation(parse(context.source), model, Config())
    teacher = fidelity.reference(compilation, [Probe(query) for query in context.held_out])
    wanted = presses(names, factors, len(compilation.context))
    return kvpress(python, embedded.folder(), job(compilation, teacher, wanted))


def main() -> None:
    """Print one JSON row a press."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of kvpress's environment")
    parser.add_argument("--data", type=Path, help="folder of public data sets")
    parser.add_argument("--context", default="support_desk")
    parser.add_argument("--press", nargs="+", default=PRESSES)
    parser.add_argument("--factors", type=float, nargs="+", default=(5.0, 10.0, 20.0))
    options = parser.parse_args()
    known = {context.name: context for context in contexts(options.data)}
    if options.context not in known:
        parser.error(f"no context {options.context!r}; known: {', '.join(known)}")
    model, context = LanguageModel.load(embedded.NAME, "cpu"), known[options.context]
    for row in measure(options.python, context, model, options.press, options.factors):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
