"""The semantic ladder: how faithful a prompt of fewer words is, and how long shortening takes.

python benches/semantic_ladder.py [--data FOLDER] [--llmlingua PYTHON] [--quick]

Articles and roles are made from the data folder; the examples come with the project. "Met" is of
the prompt's text, without the chat template. Answers are compared with the data set's where it has
them, else with those to the full prompt. A context that is in the output folder already is not run
again.
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
from benches.peers.run_llmlingua import STYLES
from benches.semantic_methods import METHODS
from benches.semantic_run import RATES, measure
from benches.semantic_table import table
from pcompiler.model import LanguageModel

KINDS = ("squad", "role", "support")
CHATS = ("order_lines",)
QUICK_CONTEXTS, QUICK_RATES = 1, (0.5,)


def main() -> None:
    """Measure the contexts that are not there yet, then print the means over all."""
    options = _options()
    chosen = [c for c in contexts(options.data) if c.kind in KINDS or c.name in CHATS]
    chosen = [c for c in chosen if not options.only or c.name in options.only]
    if options.quick:
        chosen = chosen[:QUICK_CONTEXTS]
    rates = QUICK_RATES if options.quick else RATES

    def rows_of(model: LanguageModel, context: LadderContext) -> Row:
        return measure(model, context, options.methods, options.llmlingua, rates)

    climb(options, chosen, rows_of, table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = (*STYLES, *METHODS)
    parser.add_argument("--data", type=Path, help="folder of public data sets: see ladder_data.py")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results" / "semantic")
    parser.add_argument("--only", nargs="+", metavar="CONTEXT", help="these contexts only")
    parser.add_argument("--methods", nargs="+", choices=known, default=known)
    parser.add_argument("--llmlingua", type=Path, help="interpreter that has llmlingua")
    parser.add_argument("--quick", action="store_true", help="one context, one rate")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, the peer's too")
    parser.add_argument("--json", metavar="FILE", help="all rows; - prints them as the last line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
