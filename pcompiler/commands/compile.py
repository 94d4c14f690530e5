"""``pcompiler compile``."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pcompiler.commands import options, output
from pcompiler.errors import ConfigError, InputError, UserError
from pcompiler.frontend import parse, read_source
from pcompiler.queries import read_queries
from pcompiler.store.db import Store
from pcompiler.table import seconds

if TYPE_CHECKING:
    from pcompiler.search import Trial


def run(args: argparse.Namespace) -> int:
    """Compile a prompt, or find it compiled already."""
    config = options.config(args)
    source = read_source(args.file)
    parse(source)
    queries = _queries(args.queries)
    fit_queries = _queries(args.fit_queries)
    if args.out:
        _check_out(Path(args.out))
    auto = config.compile.target == "auto"
    _check_plot(args.plot, auto)
    from pcompiler.compiler import Compiler

    with Store(config.store.folder) as store:
        compiler = Compiler(store=store, config=config)
        trials: list[Trial] = []
        if auto:
            found = compiler.search(source, queries, fit_queries=fit_queries)
            done, trials = found.compiled, found.trials
        else:
            done = compiler.compile(source, queries=queries, fit_queries=fit_queries)
        if args.out:
            _write_file(Path(args.out), store.get(done.id).encode())
    if args.plot:
        from pcompiler.commands.trade import picture

        picture(trials, done, Path(args.plot))
    if args.json:
        tried = {"trials": [{**vars(t), "fidelity": vars(t.fidelity)} for t in trials]}
        summary = {**output.summary(done.header), **(tried if auto else {})}
        output.json_line({**summary, "cached": done.cached, "elapsed_s": done.elapsed_s})
        return 0
    if auto:
        from pcompiler.commands.trade import table

        print(f"{table(trials, done)}\n")
    if done.cached:
        print(f"already compiled, found in {seconds(done.elapsed_s)}\n")
    print(f"{args.file} → {done.header.target}, artifact {done.id}")
    print(output.report(done.header))
    print(f'\ntry it: pcompiler run {done.id[:8]} "your question" --compare')
    return 0


def _check_plot(path: str | None, auto: bool) -> None:
    """Before anything slow runs."""
    if path is None:
        return
    if not auto:
        raise ConfigError("--plot shows what --target auto has tried; give both.")
    if not path.endswith(".png") or not Path(path).absolute().parent.is_dir():
        raise InputError(f"--plot {path}: name a .png file in a folder that exists.")
    from pcompiler.commands.trade import check

    check()


def _queries(path: str | None) -> list[str] | None:
    return [probe.query for probe in read_queries(path)] if path else None


def _check_out(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; name a file in it.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out {path}: its folder does not exist; make it first.")


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
