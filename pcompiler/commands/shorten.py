"""``pcompiler shorten``: text in, less text out; no model, no store."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from pcompiler import embedded, progress
from pcompiler.changes import changes
from pcompiler.commands import diff, options, output
from pcompiler.config import Config
from pcompiler.errors import ConfigError, ModelError
from pcompiler.frontend import parse, read_source
from pcompiler.ir import Prompt
from pcompiler.table import nbytes, percent, seconds


def run(args: argparse.Namespace) -> int:
    """Print the shorter prompt; as chat messages if it came as such."""
    config = options.config(args)
    if config.targets.rate is None and config.targets.target_tokens is None:
        raise ConfigError("give --rate (0 to 1) or --target-tokens.")
    source = read_source(args.file)
    prompt = parse(source)
    tokenizer = _tokenizer(config)
    from pcompiler.passes.shorten import without_model

    start = time.perf_counter()
    with progress.waiting(f"shortening {nbytes(len(source.encode()))}"):
        done, total = without_model(prompt, tokenizer, config.targets)
    took = time.perf_counter() - start
    shown = _shown(done.prompt)
    told = {
        "text": shown,
        "tokens": total,
        "kept_tokens": done.tokens,
        "rate": done.tokens / total,
        "let_go": list(done.let_go),
        "elapsed_s": took,
        "fidelity": None,
    }
    parts = changes(_shown(prompt), shown) if args.diff else []
    if args.json:
        shown_diff = {"diff": [[p.sign, p.text] for p in parts]} if args.diff else {}
        output.json_line(told | shown_diff)
        return 0
    if args.diff:
        shown = diff.coloured(parts) if sys.stdout.isatty() else diff.marked(parts)
    print(shown, end="" if shown.endswith("\n") else "\n")
    released = f"; not protected, as they did not fit: {', '.join(done.let_go)}"
    print(
        f"{done.tokens} of {total} tokens ({percent(done.tokens / total)}) in {seconds(took)}"
        f"{released if done.let_go else ''}. Not measured: 'pcompiler compile --target text' "
        "tells how faithful it is.",
        file=sys.stderr,
    )
    return 0


def _shown(prompt: Prompt) -> str:
    """What was given, in the form that it was given in."""
    if prompt.source.lstrip("\ufeff \t\r\n").startswith("[") and prompt.roles != ("system",):
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        return json.dumps(messages, ensure_ascii=False, indent=1)
    return prompt.messages[0].content


def _tokenizer(config: Config) -> Any:  # noqa: ANN401 - the library has no stubs
    from tokenizers import Tokenizer

    name = config.model.name
    folder = embedded.folder() if name == embedded.NAME else Path(name).expanduser()
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(
            f"model {name!r} has no tokenizer.json at hand; give {embedded.NAME!r} or a folder."
        )
    return Tokenizer.from_file(str(file))
