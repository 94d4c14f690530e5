"""Runs LLMLingua in its own environment, on a context of the ladder.

python -m benches.peers.run_llmlingua --python ENVIRONMENT/bin/python --rates 0.5 0.2
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.ladder_contexts import contexts
from benches.peers import environment
from pcompiler import embedded
from pcompiler.frontend import parse
from pcompiler.ir import Message

Job = dict[str, Any]

SCRIPT = Path(__file__).with_name("llmlingua_peer.py")
CORRECTIONS = 3  # of the rate that it is told, until its text is about as long as asked for
# LongLLMLingua (arXiv 2310.06839) with its authors' settings.
LONG: Job = {
    "rank_method": "longllmlingua",
    "condition_in_question": "after_condition",
    "condition_compare": True,
    "dynamic_context_compression_ratio": 0.3,
    "concate_question": False,
}
STYLES = ("llmlingua", "longllmlingua")
LABELS = {"system": "System", "user": "User", "assistant": "Assistant"}


def llmlingua(python: Path, model_folder: Path, job: Job) -> Job | None:
    """Run the requests of a job; see ``llmlingua_peer`` for the job and the result.

    Args:
        python: interpreter of the environment that has LLMLingua.
        model_folder: a transformers model in safetensors.
        job: a text to check the model with, threads and requests.

    Returns:
        The result; None, with a line on standard error, where that environment is not there.

    Raises:
        RuntimeError: the peer failed as a whole; with the end of what it said.
    """
    found: Job | None = environment.run("llmlingua", python, SCRIPT, model_folder, job)
    return found


def job(
    messages: Sequence[Message],
    rates: Sequence[float],
    threads: int,
    styles: Sequence[str] = STYLES,
) -> Job:
    """One request a style and rate; the model is checked on all the text.

    LongLLMLingua ranks by a question. It gets the prompt's first paragraph for it, which it also
    leaves as it is; a prompt of one paragraph and a chat have no such request.
    """
    check = "\n\n".join(message.content for message in messages)
    paragraphs = [p for p in check.split("\n\n") if p.strip()]
    requests = []
    for style in styles:
        if style == "longllmlingua" and (len(messages) > 1 or len(paragraphs) < 2):
            continue
        asked = _chat(messages) if len(messages) > 1 else _plain(paragraphs, style)
        common = {"style": style, "corrections": CORRECTIONS}
        requests += [{"rate": rate, **common, **asked} for rate in rates]
    return {"check": check, "threads": threads, "requests": requests}


def _plain(paragraphs: Sequence[str], style: str) -> Job:
    """The prompt's paragraphs, which are the contexts that the peer chooses among first."""
    if style == "llmlingua":
        return {"context": paragraphs}
    first, *rest = paragraphs
    return {"context": rest, "options": LONG | {"instruction": first, "question": first}}


def _chat(messages: Sequence[Message]) -> Job:
    """A transcript whose labels are left alone."""
    parts = []
    for number, message in enumerate(messages):
        label = ("\n\n" if number else "") + f"{LABELS[message.role]}: "
        parts.append(f"<llmlingua, compress=False>{label}</llmlingua>")
        parts.append(f"<llmlingua>{message.content}</llmlingua>")
    return {"structured": "".join(parts)}


def messages_of(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with the peer's text in place of theirs.

    Raises:
        ValueError: a chat's turns are not all there.
    """
    if len(messages) == 1:
        return [Message(messages[0].role, text)]
    labels = "|".join(LABELS.values())
    _, *found = re.split(rf"(?:^|\n\n)(?:{labels}): ", text)
    if len(found) != len(messages):
        raise ValueError(f"{len(found)} of the chat's {len(messages)} turns are left.")
    return [Message(m.role, part) for m, part in zip(messages, found, strict=True)]


def main() -> None:
    """Print one JSON row a style and rate, with the text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of LLMLingua's environment")
    parser.add_argument("--data", type=Path, help="folder of public data sets")
    parser.add_argument("--context", default="support_desk")
    parser.add_argument("--rates", type=float, nargs="+", default=(0.8, 0.5, 0.33, 0.2))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    known = {context.name: context for context in contexts(options.data)}
    if options.context not in known:
        parser.error(f"no context {options.context!r}; known: {', '.join(known)}")
    messages = parse(known[options.context].source).messages
    wanted = job(messages, options.rates, options.threads)
    found = llmlingua(options.python, embedded.folder(), wanted)
    if found is not None:
        for request, row in zip(wanted["requests"], found["rows"], strict=True):
            print(json.dumps({"style": request["style"]} | row))


if __name__ == "__main__":
    main()
