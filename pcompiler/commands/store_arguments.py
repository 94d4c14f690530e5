"""The arguments of ``pcompiler store``; argparse only, nothing heavy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pcompiler.commands import arguments
from pcompiler.commands.parsers import command, common
from pcompiler.config import Config
from pcompiler.sharing import SWEPT_AFTER_H

if TYPE_CHECKING:
    from pcompiler.commands.parsers import Parser

    Actions = argparse._SubParsersAction[Parser]


def add(commands: Actions) -> None:
    """``store`` and all of its actions."""
    store = commands.add_parser("store", help="list, search, name, check or back up what is stored")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    _look(actions)
    _names(actions)
    _upkeep(actions)
    _remote(actions)
    _dictionary(actions)


def _simple(
    actions: Actions, name: str, summary: str, example: str, module: str
) -> argparse.ArgumentParser:
    function = "list_" if name == "list" else name
    c = command(actions, name, summary, f"pcompiler store {example}", module, function)
    common(c)
    return c


def _look(actions: Actions) -> None:
    one = "an id, the beginning of one, or a name"
    _simple(actions, "list", "list all artifacts", "list --json", "store")
    _simple(actions, "stats", "count artifacts and bytes", "stats", "store")
    c = _simple(actions, "show", "show all that is known of an artifact", "show 3f9a1c", "store")
    c.add_argument("artifact", help=one)
    c.add_argument("--prompt", action="store_true", help="print the prompt it came from")
    c.add_argument("--text", action="store_true", help="print a text artifact's text")
    example = 'search "opening hours" --limit 3'
    arguments.search(_simple(actions, "search", "find prompts by meaning", example, "store"))
    c = _simple(actions, "delete", "delete an artifact", "delete 3f9a1c", "store")
    c.add_argument("artifact", help=one)
    c.add_argument("--everywhere", action="store_true", help="from the remote as well")
    c = _simple(
        actions,
        "diff",
        "show how two artifacts and their prompts differ",
        "diff 3f9a 81cd",
        "names",
    )
    c.add_argument("a", help=one)
    c.add_argument("b", help=one)
    c = _simple(actions, "log", "show an artifact's or a name's history", "log support", "names")
    c.add_argument("name", help="a name, an id, or the beginning of one")


def _names(actions: Actions) -> None:
    _simple(actions, "names", "list all names", "names", "names")
    c = _simple(
        actions, "tag", "point names at an artifact", "tag 3f9a1c support support:june", "names"
    )
    c.add_argument("artifact", help="an id, the beginning of one, or another name")
    c.add_argument("names", nargs="+", metavar="NAME", help="as in support, or support:june")
    many = (
        ("untag", "forget a name; the artifact stays", "untag support:june"),
        ("pin", "keep what a name points at from being evicted or deleted", "pin support"),
        ("unpin", "let what a name points at be evicted or deleted", "unpin support"),
    )
    for name, summary, example in many:
        _simple(actions, name, summary, example, "names").add_argument("name")


def _upkeep(actions: Actions) -> None:
    c = _simple(
        actions, "check", "find damage and set it aside; exit 3 if there is any", "check", "upkeep"
    )
    c.add_argument("--dry-run", action="store_true", help="only look")
    c = _simple(
        actions, "backup", "copy the store while others use it", "backup /backups/monday", "upkeep"
    )
    c.add_argument("folder", metavar="DIR", help="a folder that is new or empty")
    c = _simple(
        actions, "restore", "put a backup in the store's place", "restore /backups/monday", "upkeep"
    )
    c.add_argument("folder", metavar="DIR", help="the backup")
    c.add_argument(
        "--replace", action="store_true", help="though there is a store, which is kept beside"
    )
    _simple(actions, "gc", "remove what no artifact needs, and shrink the files", "gc", "upkeep")
    c = _simple(
        actions,
        "evict",
        "remove the artifacts that were not used for longest",
        "evict --max-bytes 2000000000",
        "upkeep",
    )
    c.add_argument("--max-bytes", type=int, metavar="N", help="of all artifacts that are to stay")


def _remote(actions: Actions) -> None:
    bucket = "--remote s3://bucket/team"
    what = "an id, the beginning of one, or a name; none: all"
    c = _simple(actions, "push", "upload what a remote does not have", f"push {bucket}", "remote")
    c.add_argument("artifacts", nargs="*", metavar="ARTIFACT", help=what)
    c.add_argument("--replace", action="store_true", help="also what seems to be there, to mend it")
    c = _simple(actions, "pull", "fetch what a remote has", f"pull 3f9a1c {bucket}", "remote")
    c.add_argument("artifacts", nargs="*", metavar="ARTIFACT", help=what)
    c = _simple(
        actions, "remote", "show what a remote has, and what waits", f"remote {bucket}", "remote"
    )
    c.add_argument("--list", action="store_true", help="all ids that it has")
    c = _simple(
        *(actions, "sweep", "remove what no artifact of a remote names", f"sweep {bucket}"),
        "remote",
    )
    c.add_argument("--dry-run", action="store_true", help="only look")
    c.add_argument(
        "--older-than",
        type=float,
        default=SWEPT_AFTER_H,
        metavar="HOURS",
        help="what is younger stays (default %(default)g); less only while nobody uploads",
    )


def _dictionary(actions: Actions) -> None:
    dictionary = actions.add_parser(
        "dictionary", help="learn what prompts and probes share, or list"
    )
    kinds = dictionary.add_subparsers(required=True, metavar="ACTION")
    c = command(
        kinds,
        "train",
        "learn a dictionary that makes stored prompts and probes smaller",
        "pcompiler store dictionary train --from prompts/ --name support",
        "dictionary",
        "train",
    )
    c.add_argument(
        "--from",
        dest="sources",
        nargs="+",
        metavar="PATH",
        help="files and folders: a sample for each file, or line of a .jsonl (default: the store)",
    )
    d = Config().store.dictionary_bytes
    c.add_argument("--size", type=int, metavar="BYTES", help=f"at most (default {d})")
    c.add_argument("--name", default="default", help="what to call it (default: %(default)s)")
    common(c)
    common(
        command(
            kinds,
            "list",
            "list all dictionaries, and how many records need each",
            "pcompiler store dictionary list --json",
            "dictionary",
            "list_",
        )
    )
