"""``python -m pcompiler.bench.profiles``: show profiles in TensorBoard, without a network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pcompiler.bench import ROOT
from pcompiler.errors import InputError, PcompilerError

EXAMPLE = """example:
  python -m pcompiler.bench --profile --quick
  python -m pcompiler.bench.profiles     # then open http://localhost:6006/#pytorch_profiler"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    p = argparse.ArgumentParser(
        prog="python -m pcompiler.bench.profiles",
        description="Show profiles in TensorBoard's PyTorch profiler plugin. The page's parts that "
        "come from the network otherwise (Google Charts, the trace viewer) are replaced by ours.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--logdir", type=Path, default=ROOT / "profiles", help="default: profiles/")
    p.add_argument("--host", default="localhost", help="default: localhost")
    p.add_argument("--port", type=int, default=6006, help="default: 6006")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; exit codes are the command line's."""
    args = parser().parse_args(argv)
    try:
        check(args.logdir)
    except PcompilerError as e:
        print(f"pcompiler.bench.profiles: {e}", file=sys.stderr)
        return e.exit_code
    from pcompiler.bench.profiles.page import board

    url = f"http://{args.host}:{args.port}/#pytorch_profiler"
    print(f"{url} (Ctrl-C ends it; large traces take a minute to appear)")
    return board(args.logdir, args.host, args.port).main() or 0


def check(folder: Path) -> None:
    """Refuse what would show nothing.

    Raises:
        InputError: a package is missing, or there is no profile in the folder.
    """
    for name in ("tensorboard", "torch_tb_profiler"):
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed; pip install 'pcompiler[profile]'.")
    if not any(folder.glob("*/*.pt.trace.json*")):
        raise InputError(
            f"{folder}: no profile in it; make one with python -m pcompiler.bench --profile."
        )


if __name__ == "__main__":
    sys.exit(main())
