"""The command line: arguments in, exit code out. What the commands do is in ``commands``.

Exit codes: 0 done, 1 a gate was missed or prompts of a corpus failed, 2 the user's mistake, 3 a
damaged store or artifact, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module

from pcompiler import __version__
from pcompiler.commands import arguments, corpus_arguments, serve_arguments, store_arguments
from pcompiler.commands.parsers import Parser, command, common
from pcompiler.config import Config, DecodeConfig
from pcompiler.errors import PcompilerError
from pcompiler.export import EXPORTS, TAKES
from pcompiler.interrupts import EXIT_CODE, heard_in_imports
from pcompiler.targets import TARGETS
from pcompiler.threads import patient_threads

EPILOG = """\
examples:
  pcompiler compile handbook.md --queries questions.jsonl
  pcompiler run 3f9a1c "When do you open?" --compare
  pcompiler store list

exit codes: 0 done, 1 a gate was missed, 2 your mistake, 3 damaged bytes, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no traceback for anything expected."""
    args = argparse.Namespace(json="--json" in (sys.argv if argv is None else argv))
    patient_threads()
    try:
        with heard_in_imports(lambda: _interrupted(args)):
            args = parser().parse_args(argv)
            module, function = args.command
            code: int = getattr(import_module(f"pcompiler.commands.{module}"), function)(args)
            return code
    except PcompilerError as e:
        return _fail(args, type(e).__name__, str(e), e.exit_code)
    except KeyboardInterrupt:
        return _interrupted(args)
    except BrokenPipeError:  # `pcompiler store list | head`
        sys.stderr.close()
        return 0


def _interrupted(args: argparse.Namespace) -> int:
    state = getattr(args, "interrupted", "the store is as it was")
    return _fail(args, "Interrupted", f"interrupted; {state}.", EXIT_CODE)


def _fail(args: argparse.Namespace, kind: str, message: str, code: int) -> int:
    print(f"pcompiler: {message}", file=sys.stderr)
    if getattr(args, "json", False):
        print(json.dumps({"error": kind, "message": message, "exit_code": code}))
    return code


def parser() -> argparse.ArgumentParser:
    """The argument parser; defaults are those of the configuration."""
    root = Parser(
        prog="pcompiler",
        description="Compile a long prompt once into an artifact that stands in for it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"pcompiler {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    _compile(commands)
    corpus_arguments.add(commands)
    _shorten(commands)
    _run(commands)
    _verify(commands)
    _export(commands)
    store_arguments.add(commands)
    serve_arguments.add(commands)
    _models(commands)
    bench = command(
        commands, "bench", "measure pcompiler itself", "pcompiler bench --device cpu", "bench"
    )
    bench.add_argument(
        "rest", nargs=argparse.REMAINDER, help="see python -m pcompiler.bench --help"
    )
    return root


def _compile(commands: argparse._SubParsersAction[Parser]) -> None:
    c = command(
        commands,
        "compile",
        "compile a prompt and measure the artifact's fidelity",
        "pcompiler compile examples/support_desk.md --queries examples/support_desk.queries.jsonl",
        "compile",
    )
    d = Config()
    c.add_argument("file", help="text, Markdown, or chat messages as JSON; - for stdin")
    kinds = "; ".join(f"{name}: {what}" for name, what in TARGETS.items())
    kinds += "; auto: the smallest that meets the gates"
    names = [*TARGETS, "auto"]
    c.add_argument("--target", choices=names, help=f"{kinds} (default {d.compile.target})")
    c.add_argument("--queries", metavar="FILE", help='held-out probes, JSON lines {"query": "…"}')
    c.add_argument(
        "--fit-queries", metavar="FILE", help="probes to fit on: each counts as three of self-study"
    )
    arguments.targets(c)
    c.add_argument("--name", metavar="NAME", help="to call the artifact, as in support:june")
    c.add_argument("--out", metavar="FILE", help="also write the artifact to a file")
    c.add_argument("--min-agreement", type=float, metavar="A", help="gate: share of tokens, 0..1")
    c.add_argument("--max-kl", type=float, metavar="K", help="gate: nats per answer token")
    c.add_argument("--seed", type=int, help=f"of self-study (default {d.compile.seed})")
    _model_options(c)
    common(c)


def _shorten(commands: argparse._SubParsersAction[Parser]) -> None:
    c = command(
        commands,
        "shorten",
        "print a prompt with fewer tokens, without a model and unmeasured, in no time",
        "pcompiler shorten handbook.md --rate 0.5 --diff",
        "shorten",
    )
    c.add_argument("file", help="text, Markdown, or chat messages as JSON; - for stdin")
    arguments.shortening(c.add_argument_group("what goes"))
    c.add_argument("--diff", action="store_true", help="show what was dropped")
    c.add_argument("--model", help="whose tokens are counted: smollm2, or a folder")
    c.add_argument("--config", metavar="FILE", help="settings, TOML; options go before it")
    c.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def _run(commands: argparse._SubParsersAction[Parser]) -> None:
    c = command(
        commands,
        "run",
        "answer a query with an artifact in place of its prompt",
        'pcompiler run 3f9a1c "When do you open?" --compare',
        "run",
    )
    c.add_argument("artifact", help="a name or an id in the store, the beginning of one, or a file")
    c.add_argument("query", help="the user's turn")
    c.add_argument("--compare", action="store_true", help="answer with the full prompt as well")
    c.add_argument("--prompt", metavar="FILE", help="the prompt, where the store does not have it")
    d = DecodeConfig()
    c.add_argument("--max-tokens", type=int, default=d.max_tokens, help="(default %(default)s)")
    c.add_argument("--temperature", type=float, default=d.temperature, help="0 is greedy (default)")
    c.add_argument("--seed", type=int, default=d.seed, help="of sampling (default %(default)s)")
    _model_options(c)
    common(c)


def _verify(commands: argparse._SubParsersAction[Parser]) -> None:
    c = command(
        commands,
        "verify",
        "check an artifact's bytes, its model, and its fidelity anew",
        "pcompiler verify 3f9a1c",
        "verify",
    )
    c.add_argument("artifact", help="a name or an id in the store, the beginning of one, or a file")
    c.add_argument("--bytes-only", action="store_true", help="load no model, measure nothing")
    _model_options(c)
    common(c)


def _export(commands: argparse._SubParsersAction[Parser]) -> None:
    c = command(
        commands,
        "export",
        "write an artifact in a form that other programs read",
        "pcompiler export 3f9a1c --to transformers --out support_desk",
        "export",
    )
    c.add_argument("artifact", help="a name or an id in the store, the beginning of one, or a file")
    forms = "; ".join(
        f"{name}: {what} ({', '.join(TAKES[name])})" for name, what in EXPORTS.items()
    )
    c.add_argument("--to", required=True, choices=list(EXPORTS), help=forms)
    c.add_argument("--out", required=True, metavar="DIR", help="a folder that is new or empty")
    c.add_argument("--patch-only", action="store_true", help="of a hybrid, to peft: half of it")
    c.add_argument("--no-bias", action="store_true", help="drop the patch's output bias")
    c.add_argument("--prompt", metavar="FILE", help="the prompt, where the store does not have it")
    common(c)


def _models(commands: argparse._SubParsersAction[Parser]) -> None:
    c = command(
        commands,
        "models",
        "list the models that can be compiled for",
        "pcompiler models --fetch",
        "models",
    )
    c.add_argument("--fetch", action="store_true", help="fetch and convert the embedded model now")
    c.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def _model_options(c: argparse.ArgumentParser) -> None:
    d = Config().model
    c.add_argument("--model", help=f"{d.name}, a folder, or a hub id (default {d.name})")
    c.add_argument("--device", help=f"auto, cpu, cuda, cuda:N, mps (default {d.device})")


if __name__ == "__main__":
    sys.exit(main())
