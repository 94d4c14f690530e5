"""The arguments of ``pcompiler corpus``; argparse only, nothing heavy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pcompiler.commands import arguments
from pcompiler.commands.parsers import command, common
from pcompiler.config import Config
from pcompiler.targets import TARGETS

if TYPE_CHECKING:
    from pcompiler.commands.parsers import Parser

EXAMPLE = "pcompiler corpus compile prompts.jsonl --target draft --dead-letters failed.jsonl"
ENGINES = {"local": "processes of this machine", "ray": "a cluster"}


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """``corpus`` and its action."""
    corpus = commands.add_parser(
        "corpus",
        help="compile many prompts",
        description="Compile many prompts into one store, each content once.",
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = corpus.add_subparsers(required=True, metavar="ACTION")
    c = command(
        actions,
        "compile",
        "compile all prompts of an input that are not in the store; exit 1 if any failed",
        EXAMPLE,
        "corpus",
        "compile_",
    )
    _what(c)
    _who(c)
    _told(c.add_argument_group("what is written"))
    arguments.settings(c)
    common(c)
    c.set_defaults(interrupted="what was compiled is in the store, the same command goes on there")


def _what(c: argparse.ArgumentParser) -> None:
    d = Config()
    c.add_argument(
        "input",
        help="JSON lines with prompt, text, source or messages, and maybe id and queries (- for "
        "stdin); Parquet with such columns; or a folder of text, Markdown and JSON files",
    )
    kinds = "; ".join(f"{name}: {what}" for name, what in TARGETS.items())
    kinds += "; draft: tidied and embedded without a model, queries and a remote are of no use"
    c.add_argument(
        "--target", choices=[*TARGETS, "draft"], help=f"{kinds} (default {d.compile.target})"
    )
    c.add_argument("--min-agreement", type=float, metavar="A", help="gate: share of tokens, 0..1")
    c.add_argument("--max-kl", type=float, metavar="K", help="gate: nats per answer token")
    c.add_argument("--seed", type=int, help=f"of self-study (default {d.compile.seed})")
    c.add_argument("--model", help=f"{d.model.name}, a folder, or a hub id")
    c.add_argument("--device", help=f"auto, cpu, cuda, cuda:N, mps (default {d.model.device})")


def _who(c: argparse.ArgumentParser) -> None:
    g = c.add_argument_group("who compiles")
    engines = "; ".join(f"{name}: {what}" for name, what in ENGINES.items())
    g.add_argument("--engine", choices=list(ENGINES), default="local", help=engines)
    g.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="that compile, each with a model of its own (default %(default)s)",
    )
    g.add_argument("--threads", type=int, metavar="N", help="of each (default: its share of cores)")
    g.add_argument("--address", metavar="A", help="of a Ray cluster that runs (default: start one)")
    g.add_argument(
        "--gpus", type=float, default=0.0, metavar="F", help="of Ray's, for each process"
    )


def _told(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--dead-letters", metavar="FILE", help="JSON lines of what failed; an input again"
    )
    g.add_argument(
        "--output", metavar="FILE", help="JSON lines of every prompt: number, id, artifact, found"
    )
    g.add_argument("--ordered", action="store_true", help="of --output: in the input's order")
    g.add_argument("--overwrite", action="store_true", help="though these files exist")
