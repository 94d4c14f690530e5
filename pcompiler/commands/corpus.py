"""``pcompiler corpus compile``."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pcompiler.commands import options, output
from pcompiler.config import Config
from pcompiler.errors import ConfigError, InputError
from pcompiler.remote import opened
from pcompiler.scale.corpus import Pass, Sheet, Summary
from pcompiler.scale.crew import Crew, check_processes
from pcompiler.scale.entries import Corpus, open_corpus
from pcompiler.store.db import Store
from pcompiler.table import percent, seconds
from pcompiler.targets import TARGETS

if TYPE_CHECKING:
    from pcompiler.scale.keeper import Keeper

DRAFT = "draft"
REFUSED = 1  # exit code: a gate was missed, or a prompt failed otherwise


def compile_(args: argparse.Namespace) -> int:
    """Compile every prompt of an input that is not in the store yet."""
    config = options.config(args)
    _check(args, config)
    with ExitStack() as open_:
        corpus = open_.enter_context(open_corpus(args.input))
        folder = config.store.folder
        store = open_.enter_context(opened(config.store))
        engine = open_.enter_context(_engine(args, _keeper(args, config, store)))
        summary = _pass(args, corpus, engine, open_)
    told = {name: value for name, value in vars(summary).items() if name != "reasons"}
    if args.json:
        output.json_line(
            {
                "target": config.compile.target,
                "engine": args.engine,
                "store": str(folder),
                **told,
                "prompts_per_s": summary.rate,
                "reasons": summary.reasons,
            }
        )
    else:
        print(_report(summary, args))
    return REFUSED if summary.failed else 0


def _pass(args: argparse.Namespace, corpus: Corpus, engine: Crew, open_: ExitStack) -> Summary:
    # Made only now: what could not begin leaves no files behind.
    letters, rows = (
        open_.enter_context(Sheet(Path(path), args.overwrite)) if path else None
        for path in (args.dead_letters, args.output)
    )
    return Pass(engine, corpus, letters, rows, args.ordered).run()


def _keeper(args: argparse.Namespace, config: Config, store: Store) -> Keeper:
    if config.compile.target == DRAFT:
        from pcompiler.scale.drafts import Drafts

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one prompt at a time
        return Drafts(store)
    from pcompiler.scale.artifacts import Artifacts

    return Artifacts(store, config, _threads(args))


def _threads(args: argparse.Namespace) -> int:
    """Of each process: its share of this machine's cores, unless it is told."""
    given: int | None = args.threads
    return given or max(1, (os.cpu_count() or 1) // args.processes)


def _engine(args: argparse.Namespace, keeper: Keeper) -> Crew:
    if args.engine == "local":
        from pcompiler.scale.local import Local

        return Local(keeper, args.processes)
    from pcompiler.scale.ray import Ray

    return Ray(keeper, args.processes, args.address, _threads(args), args.gpus)


def _check(args: argparse.Namespace, config: Config) -> None:
    """Before anything is opened or loaded."""
    target, known = config.compile.target, [DRAFT, *TARGETS]
    if target not in known:
        raise ConfigError(f"target {target!r} is not for a corpus; give one of {', '.join(known)}.")
    check_processes(args.processes)
    if args.engine == "local" and (args.address or args.gpus):
        raise ConfigError("--address and --gpus are for --engine ray.")
    if args.address:
        from pcompiler.scale.ray import check_address

        check_address(args.address)
    if args.ordered and not args.output:
        raise ConfigError("--ordered is of what --output writes; give --output FILE.jsonl as well.")
    if args.threads is not None and not 1 <= args.threads <= 1024:
        raise ConfigError(f"--threads {args.threads}: it must be from 1 to 1,024.")
    if not 0 <= args.gpus <= 64:
        raise ConfigError(f"--gpus {args.gpus}: it must be from 0 to 64.")
    written = [Path(path) for path in (args.dead_letters, args.output) if path]
    for path in written:
        _check_file(path, args)
    if len({path.resolve() for path in written}) < len(written):
        raise InputError(f"--dead-letters and --output are both {written[0]}; name two files.")


def _check_file(path: Path, args: argparse.Namespace) -> None:
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"{path}: name a file in a folder that exists.")
    if path.resolve() == Path(args.input).resolve():
        raise InputError(f"{path} is the input; what is written needs a file of its own.")
    if path.exists() and not args.overwrite:
        raise InputError(
            f"{path} exists; give another name, or --overwrite. A run goes on where another was "
            "stopped, and tells of every prompt again: nothing in the old file is needed."
        )


def _report(summary: Summary, args: argparse.Namespace) -> str:
    n = max(1, summary.prompts)
    took = f"{seconds(summary.seconds)} ({summary.rate:,.1f} a second)"
    lines = [
        f"{summary.prompts:,} prompts in {took}: "
        f"{summary.compiled:,} compiled, {summary.found:,} found ({percent(summary.found / n)}), "
        f"{summary.failed:,} failed"
    ]
    lines += [f"  {reason}" for reason in summary.reasons]
    if summary.failed > len(summary.reasons):
        lines.append(f"  … and {summary.failed - len(summary.reasons):,} more")
    if summary.failed and args.dead_letters:
        lines.append(f"{args.dead_letters} has those that failed, as an input for another try")
    return "\n".join(lines)
