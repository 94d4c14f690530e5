"""A ladder's results: one JSON file a context, measured once, and all of them as a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benches.ladder_contexts import LadderContext
from pcompiler.model import LanguageModel

Row = dict[str, Any]


def climb(
    options: argparse.Namespace,
    chosen: Sequence[LadderContext],
    measure: Callable[[LanguageModel, LadderContext], Row],
    table: Callable[[Sequence[Row]], str],
) -> None:
    """Measure the contexts that are not in ``options.out`` yet, then print and write all.

    Args:
        options: of a script: ``out``, ``device``, ``dtype``, ``threads`` and ``json``.
        chosen: the contexts.
        measure: all rows of one.
        table: of all of them, for people.
    """
    files = {context.name: options.out / f"{context.name}.json" for context in chosen}
    options.out.mkdir(parents=True, exist_ok=True)
    missing = [context for context in chosen if not files[context.name].is_file()]
    if missing:
        model = LanguageModel.load("smollm2", options.device, options.dtype)
        model.device.use_threads(options.threads)
        for number, context in enumerate(missing, 1):
            print(f"{context.name} ({number} of {len(missing)})", file=sys.stderr, flush=True)
            found = measure(model, context)
            files[context.name].write_text(json.dumps(found, indent=1) + "\n")
    rows = [json.loads(file.read_text()) for file in files.values()]
    print(table(rows))
    if options.json:
        text = json.dumps({"schema": 1, "contexts": rows})
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n")
