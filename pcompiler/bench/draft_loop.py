"""What ``corpus compile --target draft`` does for each prompt, in a loop without its machinery.

No engine, no workers, no outcomes, no bad rows, no progress: ``corpus_command`` compares with it.

    python -m pcompiler.bench.draft_loop INPUT.jsonl STORE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pcompiler.draft import Drafter
from pcompiler.embed.static import Static
from pcompiler.store.db import Store


def main(path: Path, folder: Path) -> None:
    """Draft what the store does not have; each line has a prompt."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    drafter = Drafter(Static.load())
    with Store(folder) as store, path.open("rb") as lines:
        for line in lines:
            source = json.loads(line)["prompt"]
            if not store.drafts.has(drafter.address(source)):
                store.drafts.put(drafter.make(source), source)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
