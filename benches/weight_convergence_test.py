"""How many steps each solver needs on real activations: context sizes × learning rates × ranks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout, not installed

from benches import script
from pcompiler.threads import patient_threads

patient_threads()  # before anything imports torch

from pcompiler.bench import convergence, plot
from pcompiler.bench.harness import commit, hardware
from pcompiler.device import pick
from pcompiler.model import LanguageModel
from pcompiler.progress import bar


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="512 and 1,024 tokens, 25 descent steps")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default auto)")
    p.add_argument("--json", metavar="FILE", help="write all runs as JSON; - prints them last")
    p.add_argument("--plot", metavar="FILE.png", help="draw residual against step")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; exit codes are the command line's."""
    return script.main("weight_convergence_test", parser(), run, argv)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    script.check_outputs(args.json, args.plot)
    if args.plot:
        plot.check_plot()
    study = convergence.QUICK if args.quick else convergence.Study()
    device = pick(args.device, "float32")
    model = LanguageModel.load("smollm2", str(device.handle), "float32")
    machine = f"{hardware()}; {device}; {device.use_threads(None)} threads"
    print(f"{machine}; commit {commit() or 'unknown'}\n")
    rows = convergence.text_activations(model, study)
    runs = []
    with bar(study.size, "convergence", "run") as shown:
        for one in convergence.run(rows, study):
            runs.append(one)
            shown.update()
    print(convergence.as_table(runs, study))
    if args.plot:
        plot.residuals(runs, Path(args.plot))
    if args.json:
        data = {"schema": 1, "hardware": machine, "commit": commit()}
        text = json.dumps(data | convergence.as_json(runs, study))
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
