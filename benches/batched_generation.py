"""Tokens a second of several answers decoded side by side, against one after the other.

Each answer has an artifact of its own before it: caches of different lengths and patches, of random
numbers, since speed does not depend on what they say. Both ways take turns in one run.

    python benches/batched_generation.py --answers 8 --prompt-tokens 500
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from pcompiler.model import LanguageModel
from pcompiler.runtime.batch import BatchRow, Feed, forward
from pcompiler.runtime.decode import steps
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import Prefix

ROUNDS = 3
RANK = 16


def prefixes(model: LanguageModel, count: int, tokens: int) -> list[Prefix]:
    """Caches from half to one and a half times so many tokens; every other one has a patch."""
    card, draw = model.card, torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=draw) * 0.02).to(model.device.dtype)

    def patch() -> Patch:
        d, ff = card.hidden, card.intermediate
        delta = Delta(numbers(RANK, ff), numbers(d, RANK), numbers(d))
        return Patch(dict.fromkeys(range(card.layers), delta))

    made = []
    for i in range(count):
        length = tokens // 2 + tokens * i // max(1, count - 1)
        keys = numbers(card.layers, card.kv_heads, length, card.head_dim)
        made.append(Prefix(keys, keys, length, patch=patch() if i % 2 else None))
    return made


def batched(model: LanguageModel, made: Sequence[Prefix], query: list[int], tokens: int) -> float:
    """Tokens a second, all side by side."""
    start = time.perf_counter()
    rows = [BatchRow(model, prefix, len(query) + tokens) for prefix in made]
    logits = forward(model, [Feed(row, query) for row in rows])
    for _ in range(tokens - 1):
        chosen = logits.argmax(-1).tolist()
        logits = forward(model, [Feed(r, [t]) for r, t in zip(rows, chosen, strict=True)])
    return len(made) * tokens / (time.perf_counter() - start)


def in_turn(model: LanguageModel, made: Sequence[Prefix], query: list[int], tokens: int) -> float:
    """Tokens a second, one after the other."""
    start, said = time.perf_counter(), 0
    for prefix in made:
        said += sum(1 for _ in steps(model, prefix, [query], tokens, _never_ends))
    return said / (time.perf_counter() - start)


def _never_ends(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 100:1000].argmax(-1) + 100  # no stop token is there


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--answers", type=int, default=8, help="side by side (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="of each (default %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=500, help="(default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    parser.add_argument("--model", default="smollm2", help="(default %(default)s)")
    parser.add_argument("--device", default="auto", help="(default %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = LanguageModel.load(args.model, args.device)
    query = model.tokenizer.encode("When do you open on a Sunday, and for how long?")
    made = prefixes(model, args.answers, args.prompt_tokens)
    both = (batched, in_turn)
    for way in both:
        way(model, made[:2], query, 2)
    rates = [[way(model, made, query, args.tokens) for way in both] for _ in range(ROUNDS)]
    for name, found in zip(("side by side", "in turn"), zip(*rates, strict=True), strict=True):
        spread = f"{min(found):.1f} to {max(found):.1f}"
        print(f"{name:>12}: {statistics.median(found):6.1f} tokens/s ({spread})")
    ratios = [a / b for a, b in rates]
    print(
        f"{args.answers} answers of {args.tokens} tokens after artifacts of about "
        f"{args.prompt_tokens}, {args.threads} thread(s), {model.device.handle}: "
        f"{statistics.median(ratios):.2f} × as fast, {ROUNDS} rounds in turns"
    )


if __name__ == "__main__":
    main()
