"""Runs LLMLingua in its own environment, on a context of the ladder.

python -m benches.peers.run_llmlingua --python ENVIRONMENT/bin/python --rates 0.5 0.2
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.ladder_contexts import contexts
from pcompiler import embedded
from pcompiler.frontend import parse
from pcompiler.ir import Message

Job = dict[str, Any]

SCRIPT = Path(__file__).with_name("llmlingua_peer.py")
CORRECTIONS = 2  # of the rate that it is told, until its text is about as long as asked for
OPTIONS: Job = {"use_context_level_filter": False}
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
    if not python.is_file():
        print(
            f"llmlingua skipped: {python} is not there (see {SCRIPT.parent / 'README.md'}).",
            file=sys.stderr,
        )
        return None
    with tempfile.TemporaryDirectory() as scratch:
        request, result = Path(scratch) / "job.json", Path(scratch) / "result.json"
        request.write_text(json.dumps(job), encoding="utf-8")
        # -I keeps this project off the peer's path: its kernels/ folder breaks transformers < 5.16.
        words = [python, "-I", SCRIPT, "--model", model_folder, "--job", request, "--out", result]
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
            [str(word) for word in words],
            cwd=scratch,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"llmlingua failed ({done.returncode}): …{done.stderr[-2000:]}")
        found: Job = json.loads(result.read_text(encoding="utf-8"))
        return found


def job(messages: Sequence[Message], rates: Sequence[float], threads: int) -> Job:
    """One request a rate; the model is checked on all the text."""
    check = "\n\n".join(message.content for message in messages)
    requests = [_request(messages, rate) for rate in rates]
    return {"check": check, "threads": threads, "requests": requests}


def _request(messages: Sequence[Message], rate: float) -> Job:
    """A plain prompt as its paragraphs; a chat as a transcript whose labels are left alone."""
    common = {"options": OPTIONS, "corrections": CORRECTIONS}
    if len(messages) == 1:
        paragraphs = [p for p in messages[0].content.split("\n\n") if p.strip()]
        return {"rate": rate, "context": paragraphs, **common}
    parts = []
    for number, message in enumerate(messages):
        label = ("\n\n" if number else "") + f"{LABELS[message.role]}: "
        parts.append(f"<llmlingua, compress=False>{label}</llmlingua>")
        parts.append(f"<llmlingua>{message.content}</llmlingua>")
    return {"rate": rate, "structured": "".join(parts), **common}


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
    """Print one JSON row a rate, with the text."""
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
    for row in found["rows"] if found else []:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
