"""The arguments of ``pcompiler serve``; argparse only, nothing heavy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pcompiler.commands.parsers import command, common
from pcompiler.config import Config

if TYPE_CHECKING:
    from pcompiler.commands.parsers import Parser


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """``serve``."""
    d = Config()
    c = command(
        commands,
        "serve",
        "serve artifacts, compiling and chat over HTTP, for OpenAI's clients too",
        "pcompiler serve --port 3000 --workers 2",
        "serve",
    )
    c.add_argument("--host", help=f"elsewhere than loopback needs keys (default {d.serve.host})")
    c.add_argument("--port", type=int, help=f"0: one that is free (default {d.serve.port})")
    c.add_argument("--workers", type=int, help=f"that speak HTTP (default {d.serve.workers})")
    c.add_argument("--api-key-file", metavar="FILE", help="NAME:KEY a line, mode 600")
    c.add_argument("--model", help=f"{d.model.name}, a folder, or a hub id")
    c.add_argument("--device", help=f"auto, cpu, cuda, cuda:N, mps (default {d.model.device})")
    common(c)
