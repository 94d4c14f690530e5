"""Write a CI job that measures every change against a stored run: a workflow and a shell script."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from pcompiler.bench import ROOT, archive
from pcompiler.bench.suites import SUITES
from pcompiler.errors import ConfigError, InputError, PcompilerError

TEMPLATES = Path(__file__).resolve().parent / "ci"
WORKFLOW, SCRIPT = Path(".github/workflows/benchmarks.yml"), Path(".ci/benchmarks")


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument(
        "--out", metavar="FOLDER", type=Path, default=ROOT, help="default: this checkout"
    )
    p.add_argument("--suite", action="append", choices=SUITES, help="default: all; may be repeated")
    p.add_argument("--baseline", metavar="NAME", default="baseline", help="the stored run")
    p.add_argument("--force", action="store_true", help="overwrite files that are there")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Write both; exit codes are the command line's."""
    args = parser().parse_args(argv)
    try:
        written = write(args.out, args.suite or SUITES, args.baseline, args.force)
    except PcompilerError as e:
        print(f"setup_ci_benchmarks: {e}", file=sys.stderr)
        return e.exit_code
    print("\n".join(f"wrote {path}" for path in written))
    suites = " ".join(args.suite or ())
    print(
        f"commit them with a run to compare with, measured on the machine that the job runs on:\n"
        f"  python -m pcompiler.bench {suites} --quick --device cpu --save {args.baseline}"
    )
    return 0


def write(folder: Path, suites: Sequence[str], baseline: str, force: bool) -> list[Path]:
    """Write the workflow and the script that it runs.

    Args:
        folder: the checkout's top.
        suites: that are measured, quick.
        baseline: the name of the saved run that they are compared with.
        force: overwrite what is there.

    Raises:
        InputError: there is no such folder, or a file is there already and ``force`` is not given.
        ConfigError: the baseline is no run's name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: it is not a folder; make it first.")
    if not baseline.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ConfigError(f"baseline {baseline!r}: letters, digits, '-', '_' and '.' make a name.")
    archive.place(baseline, force=True)
    paths = [folder / WORKFLOW, folder / SCRIPT]
    if not force and (there := [str(path) for path in paths if path.exists()]):
        raise InputError(f"{', '.join(there)}: there already; --force overwrites.")
    for path in paths:
        text = (TEMPLATES / path.name).read_text(encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        filled = text.replace("%SUITES%", " ".join(suites)).replace("%BASELINE%", baseline)
        path.write_text(filled, encoding="utf-8")
    paths[1].chmod(0o755)
    return paths


if __name__ == "__main__":
    sys.exit(main())
