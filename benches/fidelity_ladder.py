"""The fidelity ladder: how faithful each kind of artifact is to the full prompt, at which size.

python benches/fidelity_ladder.py [--data FOLDER] [--grid GRID] [--fitting N] [--refine STEPS]
                                  [--refined-rank R] [--quick]

Every row of a context is measured on the same held-out queries, after the artifact's bytes have
been written and read again. A context that is in the output folder already is not run again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, from anywhere

from pcompiler.threads import patient_threads

patient_threads()  # before torch is imported

from benches.ladder_archive import Row, climb
from benches.ladder_contexts import LadderContext, contexts
from benches.ladder_run import GRIDS, REFINED, measure
from benches.ladder_table import table
from pcompiler.model import LanguageModel

QUICK_CONTEXTS = 1
QUICK_FITTING = 24


def main() -> None:
    """Measure the contexts that are not there yet, then print the means over all."""
    options = _options()
    chosen = [c for c in contexts(options.data) if not options.only or c.name in options.only]
    if options.quick:
        chosen = chosen[:QUICK_CONTEXTS]
    fitting = QUICK_FITTING if options.quick else options.fitting

    def rows_of(model: LanguageModel, context: LadderContext) -> Row:
        grid, refine = GRIDS[options.grid], (options.refine, options.refined_rank)
        return measure(model, context, grid, fitting, options.kvpress, *refine)

    climb(options, chosen, rows_of, table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of public data sets: see ladder_data.py")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results" / "ladder")
    parser.add_argument("--only", nargs="+", metavar="CONTEXT", help="these contexts only")
    parser.add_argument("--grid", choices=GRIDS, default="headline")
    parser.add_argument("--fitting", type=int, default=56, help="self-study probes of a context")
    parser.add_argument("--refine", type=int, default=0, metavar="STEPS", help="also distil")
    parser.add_argument("--refined-rank", type=int, default=REFINED, metavar="R", help="of these")
    parser.add_argument("--kvpress", type=Path, help="interpreter that has kvpress, for peers")
    parser.add_argument("--quick", action="store_true", help="one context, few probes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--json", metavar="FILE", help="all rows; - prints them as the last line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
