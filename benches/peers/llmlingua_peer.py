"""Microsoft's LLMLingua on one prompt: shorter texts, and what they cost.

A script for LLMLingua's own environment (see README.md beside it); it imports nothing of
pcompiler. The job is JSON:

    {"check": text, "threads": 1,
     "requests": [{"rate": 0.5, "context": [texts], "options": {…}, "corrections": 2},
                  {"rate": 0.5, "structured": text with <llmlingua> tags, "options": {…}}, …]}

Options go to ``PromptCompressor.compress_prompt``, or to ``structured_compress_prompt``. With
corrections it is told a lower or higher rate again, by what the last text missed, and the text
nearest to ``rate`` is taken. The result is JSON: ``load_s``, ``prefill_s`` and ``prefill_cpu_s``
(one run of the model over ``check`` in this environment), ``nll`` (nats a token of ``check``: for
the caller to see that both environments run the same model) and ``rows``, one a request:
``rate``, ``told_rate``, ``text``, ``seconds`` and ``cpu_s`` (of the one call that made the text),
``claimed_tokens``, ``first_tokens`` (of the text when just told ``rate``) and ``origin_tokens``
(all by the model's tokenizer). A request that fails at once has ``rate`` and ``error`` instead.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]

NEAR = 0.02  # of the rate asked for: not corrected any further


class _Counter:
    """Stands in for GPT-3.5's tokenizer, which would be fetched; LLMLingua only counts with it."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - untyped transformers
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids


def load(folder: Path) -> Any:  # noqa: ANN401 - untyped llmlingua
    """A PromptCompressor over a model folder that ``readable`` has made, in float32 on the CPU."""
    import tiktoken

    tiktoken.encoding_for_model = lambda _: None  # what it would fetch here is replaced below
    from llmlingua import PromptCompressor

    made = PromptCompressor(str(folder), device_map="cpu")
    made.oai_tokenizer = _Counter(made.tokenizer)
    return made


def readable(folder: Path, scratch: Path) -> Path:
    """The model folder as transformers 4 reads it: same weights and tokenizer, older settings.

    Transformers 5 writes the rotary base where 4 does not look, which would then silently run
    with another one, and names a tokenizer class that 4 does not have.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters", {})
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"rotary positions of type {rope['rope_type']!r} are not translated.")
    config |= {k: v for k, v in rope.items() if k == "rope_theta"}
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    kept = {name: tokenizer[name] for name in tokenizer if name.endswith("_token")}
    kept |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name in ("model.safetensors", "tokenizer.json"):
        (scratch / name).symlink_to(folder / name)
    (scratch / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (scratch / "tokenizer_config.json").write_text(json.dumps(kept), encoding="utf-8")
    return scratch


def run(compressor: Any, job: Row) -> Row:  # noqa: ANN401
    """One bare prefill, then every request of the job."""
    torch.set_num_threads(job["threads"])
    _prefill(compressor, job["check"])  # warm-up
    found = _prefill(compressor, job["check"])
    return found | {"rows": [_compress(compressor, request) for request in job["requests"]]}


def _prefill(compressor: Any, text: str) -> Row:  # noqa: ANN401
    ids = torch.tensor([compressor.oai_tokenizer.encode(text)])
    with torch.no_grad():
        wall, cpu = time.perf_counter(), time.process_time()
        compressor.model.model(ids)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        nll = float(compressor.model(ids, labels=ids).loss)
    return {"prefill_s": wall, "prefill_cpu_s": cpu, "nll": nll}


def _compress(compressor: Any, request: Row) -> Row:  # noqa: ANN401
    """The text nearest to the rate asked for, of the first try and the corrections."""
    rate, told, tries = request["rate"], request["rate"], list[Row]()
    try:
        for _ in range(1 + request.get("corrections", 0)):
            tries.append(_timed(compressor, request, told))
            told = _corrected(rate, [(t["told_rate"], _met(t)) for t in tries])
            if abs(_met(tries[-1]) / rate - 1) < NEAR:
                break
    except Exception as failure:  # whatever it is, it is the peer's result here
        if not tries:
            return {"rate": rate, "error": f"{type(failure).__name__}: {failure}"[:500]}
    nearest = min(tries, key=lambda t: abs(_met(t) - rate))
    return {"rate": rate, **nearest, "first_tokens": tries[0]["claimed_tokens"]}


def _met(row: Row) -> float:
    return float(row["claimed_tokens"] / row["origin_tokens"])


def _corrected(rate: float, seen: list[tuple[float, float]]) -> float:
    """Which rate to tell it next, from what it was told and what it met; both 0..1."""
    low = max((pair for pair in seen if pair[1] < rate), key=lambda p: p[1], default=None)
    high = min((pair for pair in seen if pair[1] > rate), key=lambda p: p[1], default=None)
    if low and high:
        return low[0] + (high[0] - low[0]) * (rate - low[1]) / (high[1] - low[1])
    told, met = seen[-1]
    return min(1.0, told * rate / met) if met else told


def _timed(compressor: Any, request: Row, rate: float) -> Row:  # noqa: ANN401
    options, method = {"rate": rate} | request.get("options", {}), compressor.compress_prompt
    context = request.get("context")
    if context is None:
        context, method = [request["structured"]], compressor.structured_compress_prompt
    wall, cpu = time.perf_counter(), time.process_time()
    found = method(context, **options)
    seconds = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    counts = {"claimed_tokens": found["compressed_tokens"], "origin_tokens": found["origin_tokens"]}
    return {"told_rate": rate, "text": found["compressed_prompt"], **seconds, **counts}


def main() -> None:
    """Read the job, write the texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="transformers model folder")
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    job = json.loads(options.job.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        compressor = load(readable(options.model.absolute(), Path(scratch)))
        load_s = time.perf_counter() - start
        found = {"load_s": load_s} | run(compressor, job)
    options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
