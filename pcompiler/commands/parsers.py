"""What all parsers of arguments share; argparse only, nothing heavy."""

from __future__ import annotations

import argparse
from typing import NoReturn

from pcompiler.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Says of a wrong argument what every other error says: one line, and JSON if asked for."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, where argparse would exit."""
        raise ConfigError(f"{message}; see '{self.prog} --help'.")


def command(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    summary: str,
    example: str,
    module: str,
    function: str = "run",
) -> argparse.ArgumentParser:
    """Add a command: what it does in a few words, an example, and the function that runs it."""
    added = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(command=(module, function))
    return added


def common(c: argparse.ArgumentParser) -> None:
    """The options of nearly every command."""
    c.add_argument("--store", metavar="DIR", help="the store's folder (default: the user's)")
    c.add_argument(
        "--remote", metavar="URL", help="behind it, shared: s3://, gs://, az:// or file://"
    )
    c.add_argument("--config", metavar="FILE", help="settings, TOML; options go before it")
    c.add_argument("--json", action="store_true", help="print one JSON object as the last line")
