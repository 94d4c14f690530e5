"""Distils the embedded encoder into a table of tokens, once; the table is used without torch.

As Model2Vec does it (github.com/MinishLab/model2vec): each token of the vocabulary is run by
itself, and frequent ones weigh less (SIF: Arora et al. 2017, with Zipf's law for the frequencies,
as a vocabulary is in about that order). What we do otherwise was chosen on half of SQuAD's
articles (README): a token's own last state, not the mean with both ends; the mean that is
subtracted is the weighted one; directions are whitened half way; and marks and single letters
weigh as the most frequent word, not as the rare ones that their place in the vocabulary says.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pcompiler import progress
from pcompiler.embed.encoder import Encoder
from pcompiler.embed.ragged import Ragged
from pcompiler.embed.static import TABLE, WORDS, fingerprint_of
from pcompiler.errors import ModelError

WIDTH = 256
SIF = 1e-3  # a token of this frequency weighs half as much as a rare one
WHITENED = 0.5  # power of a direction's spread that it is divided by
BATCH = 512  # tokens at once
Matrix = NDArray[np.float64]


def make(folder: Path) -> Path:
    """Make the table's folder, unless another process has it by now; returns it.

    Raises:
        ModelError: the encoder cannot be fetched, or the cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _write(Encoder.load("cpu"), folder)
    except OSError as e:
        raise ModelError(
            f"cannot write the static table to {folder.parent}: {e.strerror or e}. Free some "
            "space (40 MB), or point PCOMPILER_CACHE to another folder."
        ) from e
    return folder


def _write(encoder: Encoder, folder: Path) -> None:
    """All or nothing: the folder appears by one rename."""
    for left_over in folder.parent.glob(f"{folder.name}.partial-*"):  # of a killed process
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.partial-", dir=folder.parent) as work:
        ready = Path(work) / "ready"
        ready.mkdir()
        made = table(encoder)
        told = {"fingerprint": fingerprint_of(made, encoder.tokenizer)}
        save_file({"table": made}, ready / TABLE, told)
        encoder.tokenizer.save(str(ready / WORDS))
        ready.rename(folder)


def table(encoder: Encoder, width: int = WIDTH) -> NDArray[np.float32]:
    """The vectors of all tokens, weights included.

    Args:
        encoder: a BERT on the CPU.
        width: dimensions that are kept, at most the encoder's.

    Returns:
        (tokens, width).
    """
    shares = frequencies(encoder)
    weights = SIF / (SIF + shares)
    states = _states(encoder)
    words = shares < shares.max()  # marks are too many to be averaged with their shares
    used = weights * np.where(words, shares, 0 if words.any() else shares)
    centred = states - (used[:, None] * states).sum(0) / used.sum()
    spread, directions = np.linalg.eigh(centred.T @ centred)
    spread, directions = spread[::-1][:width], directions[:, ::-1][:, :width]
    kept = centred @ directions / np.maximum(spread, 1e-9) ** (WHITENED / 2)
    found = kept * weights[:, None]
    # The scale is free, as texts are normalised.
    return np.asarray(found / np.linalg.norm(found, axis=1).mean(), dtype=np.float32)


def frequencies(encoder: Encoder) -> Matrix:
    """(tokens,) shares of running text by Zipf's law: that of the r-th word goes as 1/r.

    Words rank in the vocabulary's order. Marks, single letters and special tokens have the first
    word's share: they are frequent or mean little.
    """
    names = sorted(encoder.tokenizer.get_vocab().items(), key=lambda item: item[1])
    ranks = np.ones(1 + max(number for _, number in names))
    count = 0
    for name, number in names:
        bare = name.removeprefix("##")
        if len(bare) > 1 and bare.isalnum():
            count += 1
            ranks[number] = count
    return np.asarray(1 / ranks / (1 / np.arange(1, max(count, 1) + 1)).sum())


def _states(encoder: Encoder) -> Matrix:
    """(tokens, d): the last hidden state of each token between the two ends."""
    run, total = Ragged(encoder.hf).states, encoder.tokenizer.get_vocab_size()
    first, last = encoder.ends
    parts = []
    with torch.inference_mode(), progress.bar(total, "static table", "token") as shown:
        for start in range(0, total, BATCH):
            some = range(start, min(total, start + BATCH))
            parts.append(run([[first, i, last] for i in some]).view(len(some), 3, -1)[:, 1])
            shown.update(len(some))
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)
