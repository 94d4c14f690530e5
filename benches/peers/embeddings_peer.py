"""Other embedding libraries on the same texts, in an environment of their own.

It imports nothing of pcompiler; see README.md beside it. The job is JSON:

    {"table": folder of our static table, "rounds": 5, "threads": 1, "texts": {name: [texts]},
     "vectors": {name: the encoder's vectors of the first few texts}}

The result is JSON, ``rows``: ``peer``, ``texts`` (their name), ``wall_s`` and ``cpu_s`` (of each
round) and ``error`` (of its vectors against the given ones, the largest; null for the table, which
is other vectors). A peer that fails is a row with ``peer`` and ``failure``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

Embed = Callable[[Sequence[str]], Any]
WINDOW, BATCH = 256, 32
MASKED = -1e9


def sentence_transformers(model: Path, _job: dict[str, Any]) -> Embed:
    """Its own encode, batches of 32 sorted by length; the model's window as pcompiler has it."""
    from sentence_transformers import SentenceTransformer

    made = SentenceTransformer(str(model), device="cpu")
    made.max_seq_length = WINDOW
    return partial(made.encode, batch_size=BATCH, normalize_embeddings=True)


def model2vec(_model: Path, job: dict[str, Any]) -> Embed:
    """Its inference over our table: the same table and tokenizer on either side."""
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(job["table"])
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.no_truncation()
    words.no_padding()
    table = load_file(folder / "table.safetensors")["table"]
    return StaticModel(table, words, normalize=True).encode  # type: ignore[no-any-return]


class _States(torch.nn.Module):
    """The mask is made here: transformers' own way to it cannot be traced."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - untyped transformers
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:  # noqa: ANN401
        hidden = (1 - mask[:, None, None, :].float()) * MASKED
        square = hidden.expand(-1, -1, ids.shape[1], -1)
        return self.model(input_ids=ids, attention_mask=square).last_hidden_state


def onnxruntime(model: Path, job: dict[str, Any]) -> Embed:
    """ONNX Runtime (what fastembed runs on), float32, batches of 32 sorted by length."""
    import onnxruntime as ort
    from tokenizers import Tokenizer
    from transformers import AutoModel

    hf = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    ids = torch.tensor([[101, 7, 102, 0], [101, 7, 8, 102]])
    axes = {name: {0: "texts", 1: "tokens"} for name in ("ids", "mask", "states")}
    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    with tempfile.TemporaryDirectory() as scratch:
        file = f"{scratch}/model.onnx"
        torch.onnx.export(
            _States(hf), (ids, (ids > 0).long()), file, input_names=["ids", "mask"],
            output_names=["states"], dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
        session = ort.InferenceSession(file, options)
    words = Tokenizer.from_file(str(model / "tokenizer.json"))
    words.enable_truncation(WINDOW)
    words.enable_padding()
    return partial(_run_session, session, words)


def _run_session(session: Any, words: Any, texts: Sequence[str]) -> Any:  # noqa: ANN401
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.zeros((len(texts), 384), np.float32)
    for at in range(0, len(texts), BATCH):
        chosen = order[at : at + BATCH]
        rows = words.encode_batch([texts[i] for i in chosen])
        ids, mask = (np.array([getattr(r, n) for r in rows]) for n in ("ids", "attention_mask"))
        states = session.run(None, {"ids": ids, "mask": mask})[0]
        means = (states * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        found[chosen] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return found


PEERS = {
    "sentence-transformers": sentence_transformers,
    "onnxruntime": onnxruntime,
    "model2vec": model2vec,
}


def run(model: Path, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Every peer on all texts."""
    torch.set_num_threads(job["threads"])
    return [row for name in PEERS for row in _peer(name, model, job)]


def _peer(name: str, model: Path, job: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        embed = PEERS[name](model, job)
        return [_timed(name, embed, some, job) for some in job["texts"]]
    except Exception as failure:  # whatever it is, it is the peer's result here
        return [{"peer": name, "failure": f"{type(failure).__name__}: {failure}"[:500]}]


def _timed(peer: str, embed: Embed, name: str, job: dict[str, Any]) -> dict[str, Any]:
    texts, given = job["texts"][name], np.array(job["vectors"][name])
    found, walls, cpus = np.asarray(embed(texts)), [], []
    for _ in range(job["rounds"]):
        wall, cpu = time.perf_counter(), time.process_time()
        embed(texts)
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    same = found.shape[1] == given.shape[1]
    error = float(np.abs(found[: len(given)] - given).max()) if same else None
    return {"peer": peer, "texts": name, "wall_s": walls, "cpu_s": cpus, "error": error}


def main() -> None:
    """Read the job, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="transformers model folder")
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    job = json.loads(options.job.read_text(encoding="utf-8"))
    options.out.write_text(json.dumps({"rows": run(options.model, job)}), encoding="utf-8")


if __name__ == "__main__":
    main()
