"""``pcompiler export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pcompiler.commands import options, output
from pcompiler.export import folder
from pcompiler.table import nbytes


def run(args: argparse.Namespace) -> int:
    """Write an artifact in a form that other programs read."""
    config, out = options.config(args), Path(args.out)
    folder.check(out)
    artifact, source = options.load(args.artifact, config)
    if args.prompt:
        source = options.prompt_of(artifact.header, source, args.prompt)
    from pcompiler.export.base import Request, write

    request = Request(artifact, source, args.patch_only, bias=not args.no_bias)
    exported = write(request, args.to, out)
    sizes = {name: len(data) for name, data in sorted(exported.files.items())}
    if args.json:
        told = {"artifact": artifact.header.id, "target": artifact.header.target, "to": args.to}
        told |= {"out": str(out), "files": sizes, "notes": list(exported.notes), **exported.facts}
        output.json_line(told)
        return 0
    print(f"artifact {artifact.header.id} ({artifact.header.target}) → {out}")
    for name, size in sizes.items():
        print(f"  {name}, {nbytes(size)}")
    for note in exported.notes:
        print(f"\n{note}")
    return 0
