"""``pcompiler run``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pcompiler.commands import options, output
from pcompiler.table import seconds, side_by_side

if TYPE_CHECKING:
    from pcompiler.session import Session


def run(args: argparse.Namespace) -> int:
    """Answer one query with an artifact, and with the full prompt when asked to compare."""
    config = options.config(args)
    artifact, source = options.load(args.artifact, config)
    if args.compare:
        source = options.prompt_of(artifact.header, source, args.prompt)
    from pcompiler.compiler import Compiler

    compiler = Compiler(config=options.for_artifact(config, args, artifact.header))
    if not args.compare and not args.json:
        with compiler.session(artifact) as session:
            for piece in _stream(session, args):
                print(piece, end="", flush=True)
        print()
        return 0
    answers = {"artifact": _timed(lambda: compiler.session(artifact), args)}
    if args.compare and source is not None:
        prompt = source
        answers["full_prompt"] = _timed(lambda: compiler.full_prompt(prompt), args)
    if args.json:
        output.json_line({"id": artifact.header.id, "query": args.query, **answers})
        return 0
    full, compiled = (
        f"{answers[side]['text']}\n\nfirst token after {seconds(answers[side]['ttft_s'])}"
        for side in ("full_prompt", "artifact")
    )
    print(side_by_side(("full prompt", f"artifact ({artifact.header.target})"), (full, compiled)))
    return 0


def _stream(session: Session, args: argparse.Namespace) -> Iterator[str]:
    return session.stream(
        args.query, max_tokens=args.max_tokens, temperature=args.temperature, seed=args.seed
    )


def _timed(opened: Callable[[], Session], args: argparse.Namespace) -> dict[str, Any]:
    """The answer, and the seconds from having nothing attached to its first piece."""
    start = time.perf_counter()
    with opened() as session:
        first, pieces = None, []
        for piece in _stream(session, args):
            first = first or time.perf_counter() - start
            pieces.append(piece)
    return {"text": "".join(pieces), "ttft_s": first}
