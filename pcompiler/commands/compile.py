"""``pcompiler compile``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pcompiler.changes import Change, changes
from pcompiler.commands import diff, options, output
from pcompiler.config import Config
from pcompiler.errors import ConfigError, InputError, UserError
from pcompiler.frontend import parse, read_source
from pcompiler.queries import read_queries
from pcompiler.remote import opened
from pcompiler.store.artifact import Artifact
from pcompiler.store.names import full_name
from pcompiler.table import seconds

if TYPE_CHECKING:
    from pcompiler.compiler import Compiler
    from pcompiler.nearest import Hit
    from pcompiler.search import Trial


def run(args: argparse.Namespace) -> int:
    """Compile a prompt, or find it compiled already."""
    config = options.config(args)
    source = read_source(args.file)
    parse(source)
    if args.name:
        full_name(args.name)
    queries = _queries(args.queries)
    fit_queries = _queries(args.fit_queries)
    if args.out:
        _check_out(Path(args.out))
    searches = _searches(config)
    _check_plot(args.plot, searches)
    _check_diff(args, config)
    from pcompiler.compiler import Compiler

    with opened(config.store) as store:
        compiler = Compiler(store=store, config=config)
        near = compiler.near_duplicate(source)
        if near and not args.json:
            print(f"{_already(near)}\n", file=sys.stderr)
        trials: list[Trial] = []
        if searches:
            target = config.compile.target
            found = compiler.search(
                source, queries, fit_queries=fit_queries, target=target, name=args.name
            )
            done, trials = found.compiled, found.trials
        else:
            done = compiler.compile(
                source, queries=queries, fit_queries=fit_queries, name=args.name
            )
        if args.out:
            _write_file(Path(args.out), store.get(done.id).encode())
        parts = _diff(compiler, source, store.get(done.id)) if _wants_diff(args) else []
    if args.diff_html:
        saved = f"{done.header.kept_tokens} of {done.header.context_tokens} tokens are kept."
        _write_file(Path(args.diff_html), diff.page(parts, args.file, saved).encode())
    if args.plot:
        from pcompiler.commands.trade import picture

        picture(trials, done, Path(args.plot))
    if args.json:
        tried = {"trials": [{**vars(t), "fidelity": vars(t.fidelity)} for t in trials]}
        shown = {"diff": [[p.sign, p.text] for p in parts]} if args.diff else {}
        summary = {**output.summary(done.header), **(tried if searches else {}), **shown}
        summary["near_duplicate"] = near and {
            "artifact": near.headers[0].id,
            "cosine": near.cosine,
        }
        output.json_line({**summary, "cached": done.cached, "elapsed_s": done.elapsed_s})
        return 0
    if args.diff:
        print(f"{diff.coloured(parts) if sys.stdout.isatty() else diff.marked(parts)}\n")
    if searches:
        from pcompiler.commands.trade import table

        print(f"{table(trials, done)}\n")
    if done.cached:
        print(f"already compiled, found in {seconds(done.elapsed_s)}\n")
    print(f"{args.file} → {done.header.target}, artifact {done.id}")
    print(output.report(done.header))
    print(f'\ntry it: pcompiler run {args.name or done.id[:8]} "your question" --compare')
    return 0


def _already(near: Hit) -> str:
    """What is told of a prompt that says nearly the same."""
    header = near.headers[0]
    return (
        f"a near-duplicate of this prompt is already compiled: {near.cosine:.3f}, "
        f"artifact {header.id} ({header.target})"
    )


def _searches(config: Config) -> bool:
    """Whether several artifacts are tried: auto, or text with a gate to choose the rate by."""
    gated = config.compile.min_agreement is not None or config.compile.max_kl is not None
    free = config.targets.rate is None and config.targets.target_tokens is None
    target = config.compile.target
    return target == "auto" or (target == "text" and gated and free)


def _wants_diff(args: argparse.Namespace) -> bool:
    return bool(args.diff or args.diff_html)


def _check_diff(args: argparse.Namespace, config: Config) -> None:
    """Before anything slow runs."""
    if _wants_diff(args) and config.compile.target != "text":
        raise ConfigError("--diff shows what a text lost; give --target text.")
    if args.diff_html:
        _check_out(Path(args.diff_html), "--diff-html")


def _diff(compiler: Compiler, source: str, artifact: Artifact) -> list[Change]:
    from pcompiler.template import Template

    full = Template.of(compiler.model.tokenizer, parse(source).messages).context_text
    return changes(full, bytes(artifact.tensors()["text"].tolist()).decode())


def _check_plot(path: str | None, searches: bool) -> None:
    """Before anything slow runs."""
    if path is None:
        return
    if not searches:
        raise ConfigError("--plot shows what a search has tried; give --target auto as well.")
    if not path.endswith(".png") or not Path(path).absolute().parent.is_dir():
        raise InputError(f"--plot {path}: name a .png file in a folder that exists.")
    from pcompiler.commands.trade import check

    check()


def _queries(path: str | None) -> list[str] | None:
    return [probe.query for probe in read_queries(path)] if path else None


def _check_out(path: Path, option: str = "--out") -> None:
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; name a file in it.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{option} {path}: its folder does not exist; make it first.")


def _write_file(path: Path, data: bytes) -> None:
    """All or nothing: written beside the target, then renamed over it."""
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise UserError(
            f"cannot write {path}: {e.strerror}. The artifact is in the store; free some space "
            "or choose another --out, and compile again: it will be a cache hit."
        ) from None
