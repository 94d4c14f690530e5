"""What entropy coding saves of real text and how fast: levels × dictionaries × pieces × threads."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.bench import corpora, entropy_goals, entropy_study
from pcompiler.bench.entropy import Outcome
from pcompiler.bench.harness import commit, hardware
from pcompiler.bench.report import as_table
from pcompiler.progress import bar


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="256 KB of each type, few levels")
    p.add_argument(
        "--data",
        metavar="FOLDER",
        type=Path,
        help="with prompts_cc0.csv and squad_dev.jsonl: adds prompts, and articles where the "
        "bench extra is not installed",
    )
    p.add_argument("--json", metavar="FILE", help="write all outcomes as JSON; - prints them last")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; exit codes are the command line's."""
    return script.main("compression_test", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    script.check_outputs(args.json)
    study = entropy_study.QUICK if args.quick else entropy_study.FULL
    found, missing = corpora.load(args.data)
    print(f"{hardware()}; commit {commit() or 'unknown'}\n")
    print(f"{entropy_study.sizes(found, study)}\n")
    outcomes: list[Outcome] = []
    with bar(len(found) * study.size, "compression", "method") as shown:
        for corpus in found:
            done = []
            for outcome in entropy_study.run(corpus, study):
                done.append(outcome)
                shown.update()
            shown.clear()
            print(f"{entropy_study.as_table(done)}\n", flush=True)  # the next takes minutes
            outcomes += done
    print(as_table(entropy_goals.figures(outcomes, missing)))
    if args.json:
        data = {"schema": 1, "hardware": hardware(), "commit": commit()}
        text = json.dumps(data | entropy_study.as_json(outcomes, study))
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
