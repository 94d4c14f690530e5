"""``pcompiler models``."""

from __future__ import annotations

import argparse

from pcompiler import embedded
from pcompiler.commands import output
from pcompiler.families import FAMILIES


def run(args: argparse.Namespace) -> int:
    """The embedded model, and what else can be given."""
    folder = embedded.folder() if args.fetch else embedded.converted()
    if args.json:
        named = {"name": embedded.NAME, "folder": str(folder) if folder else None}
        output.json_line({"embedded": named, "families": list(FAMILIES)})
        return 0
    where = f"ready in {folder}" if folder else "fetched and converted on first use (93 MB)"
    print(f"{embedded.NAME}: SmolLM2-135M-Instruct, embedded; {where}")
    print(f"any local folder or hub id with safetensors of the families {', '.join(FAMILIES)}")
    return 0
