"""Sentence encoders; the one that comes with pcompiler is all-MiniLM-L6-v2 (Apache-2.0), 384 wide.

Sentence-BERT (arXiv 1908.10084): a BERT whose last hidden states are averaged over the tokens and
normalised, so that the dot product of two texts is their cosine. It was trained on English. Most
Chinese characters, all of Thai and most emoji are one unknown token to it, so that unrelated texts
of as many of them have a cosine of 1: ask ``reads`` or ``known`` before a cosine decides anything.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch.nn.functional import normalize

from pcompiler import progress
from pcompiler.device import Device, pick
from pcompiler.embed import pretrained
from pcompiler.embed.base import Vectors, check_texts, reported
from pcompiler.embed.minilm import NAME, WHEEL, WINDOW
from pcompiler.embed.ragged import PRECISIONS, Ragged, faster
from pcompiler.errors import ConfigError, InputError, ModelError

if TYPE_CHECKING:
    from pcompiler.config import EmbedConfig

__all__ = ["NAME", "WHEEL", "WINDOW", "Encoder", "from_settings"]

BATCH = 32  # texts encoded side by side
POOLINGS = ("mean", "first")


def from_settings(settings: EmbedConfig, device: str = "auto") -> Encoder:
    """The encoder that the settings name."""
    found = Encoder.load(device, settings.model or NAME, settings.precision)
    return replace(found, batch=settings.batch)


@dataclass(frozen=True)
class Encoder:
    """A loaded sentence encoder.

    Attributes:
        hf: the transformers model, in eval mode, on ``device`` and in its dtype.
        tokenizer: its tokenizer, without truncation and padding.
        device: where it is and why.
        window: tokens that it reads at once, both ends included.
        pooling: what of its last hidden states is the vector: their mean, or the first.
        precision: of the products where ragged rows are run: see ``Ragged``.
        batch: texts encoded side by side, where a call does not say.
    """

    hf: Any
    tokenizer: Tokenizer
    device: Device
    window: int = WINDOW
    pooling: str = "mean"
    precision: str = "float32"
    batch: int = BATCH

    @classmethod
    def load(cls, device: str = "auto", name: str = NAME, precision: str = "auto") -> Encoder:
        """An encoder by name; the embedded one is fetched on first use.

        Args:
            device: auto, cpu, cuda, cuda:N or mps.
            name: minilm (embedded), a local folder, or a hub id.
            precision: auto: the device's own, on the CPU float32; or bfloat16, float16, int8,
                which give other vectors and, on the CPU, are used only if they are faster there.

        Raises:
            ModelError: it cannot be fetched, or its folder cannot be read.
            DeviceError: the device is not here.
            ConfigError: a precision that is not known, or int8 where only the CPU has it.
        """
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(
                f"precision {precision!r} is not known: auto, {', '.join(PRECISIONS)}."
            )
        where = pick(device, "auto" if precision == "int8" else precision)
        if where.is_host:
            where = pick(device, "float32")  # outside the products
        elif precision == "int8":
            raise ConfigError(f"int8 is of the CPU only; {where} has its own precision: auto.")
        found = pretrained.read(name, where.dtype)
        made = cls.from_objects(found.hf, found.tokenizer, where, found.window, found.pooling)
        if precision == "auto" or not made.is_ragged or not faster(made.hf, precision):
            return made
        return replace(made, precision=precision)

    @classmethod
    def from_objects(
        cls,
        hf: Any,  # noqa: ANN401
        tokenizer: Tokenizer,
        device: Device,
        window: int = WINDOW,
        pooling: str = "mean",
    ) -> Encoder:
        """Wrap an encoder that is already in memory; it is moved to ``device``."""
        assert pooling in POOLINGS, pooling
        # The published file cuts and pads to 128 tokens, which is neither the window nor needed.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        hf = hf.to(dtype=device.dtype, device=device.handle).eval().requires_grad_(False)
        return cls(hf, tokenizer, device, window, pooling)

    @property
    def width(self) -> int:
        """Dimensions of a vector: 384."""
        return int(self.hf.config.hidden_size)

    @property
    def is_ragged(self) -> bool:
        """Whether texts run without padding: a BERT on the CPU, where many small calls are free."""
        config = self.hf.config
        plain = config.model_type == "bert" and config.hidden_act == "gelu"
        return plain and not getattr(config, "is_decoder", False) and self.device.is_host

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, tokenizer and what else changes a vector: 16 hex digits."""
        rest = [self.window, self.pooling, self.precision, str(self.device.dtype)]
        found = hashlib.sha256(f"{rest} {self.tokenizer.to_str()}".encode())
        for name, tensor in self.hf.state_dict().items():
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        return found.hexdigest()[:16]

    @cached_property
    def _ragged(self) -> Ragged | None:
        return Ragged(self.hf, self.precision) if self.is_ragged else None

    @property
    def ends(self) -> tuple[int, int]:
        """The tokens that every text begins and ends with."""
        return self._special("[CLS]", "<s>"), self._special("[SEP]", "</s>")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As ``encode``, for numpy: see ``embed.base.Provider``."""
        check_texts(texts)
        found: Vectors = self.encode(texts).numpy()
        return found

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, width) unit vectors of texts of any length: see ``encode_document``."""
        check_texts(texts)
        found: Vectors = self._documents(texts, self.batch).numpy()
        return found

    @reported("encoder")
    def encode(self, texts: Sequence[str], batch: int | None = None) -> torch.Tensor:
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
        batch = self.batch if batch is None else batch
        if isinstance(texts, str) or batch < 1:
            raise InputError("give the encoder a list of texts, and a batch of at least 1.")
        room = self.window - 2
        return self._vectors([ids[:room] for ids in self._ids(texts)], batch)

    def encode_document(self, text: str, batch: int | None = None) -> torch.Tensor:
        """One unit vector for a text of any length: the mean over its windows, normalised.

        Windows are equally long, so each counts alike, and follow each other without overlap. A
        text of a single window has the vector that ``encode`` gives.

        Returns:
            (384,), float32, on the CPU; zeros for a text without any token.
        """
        return self._documents([text], batch or self.batch)[0]

    def reads(self, texts: Sequence[str]) -> list[bool]:
        """Whether ``encode`` sees all of a text: it fits the window, each token has a meaning."""
        unknown, room = self._special("[UNK]", "<unk>"), self.window - 2
        return [len(ids) <= room and unknown not in ids for ids in self._ids(texts)]

    def known(self, texts: Sequence[str]) -> list[float]:
        """Of each text the share of its tokens that the encoder has a meaning for; empty: 1."""
        unknown = self._special("[UNK]", "<unk>")
        rows = self._ids(texts)
        return [1 - ids.count(unknown) / max(1, len(ids)) for ids in rows]

    def count(self, texts: Sequence[str]) -> int:
        """Tokens that ``encode`` reads of all texts together, both ends of each included."""
        return sum(min(len(ids) + 2, self.window) for ids in self._ids(texts) if ids)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids without the two ends."""
        # Half a surrogate pair is a legal str that the tokenizer cannot take.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        encodings = self.tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _special(self, *names: str) -> int:
        """The id of a special token, by whichever of these names the tokenizer knows."""
        for name in names:
            number = self.tokenizer.token_to_id(name)
            if number is not None:
                return int(number)
        raise ModelError(f"the encoder's tokenizer has no {' or '.join(names)}.")

    @reported("encoder")
    def _documents(self, texts: Sequence[str], batch: int) -> torch.Tensor:
        """(n, 384): windows of all texts run together."""
        pieces = [list(_windows(ids, self.window - 2)) for ids in self._ids(texts)]
        every = self._vectors([window for windows in pieces for window in windows], batch)
        parts = torch.split(every, [len(windows) for windows in pieces])
        sums = [part.sum(0) for part in parts] or [torch.zeros(0, self.width)]
        return normalize(torch.stack(sums).view(-1, self.width), dim=1)

    def _vectors(self, rows: Sequence[list[int]], batch: int) -> torch.Tensor:
        """(n, 384) unit vectors of token ids; rows of like length share a batch."""
        found = torch.zeros(len(rows), self.width)
        first, last = self.ends
        run = self._padded if self._ragged is None else self._unpadded
        order = sorted((i for i, ids in enumerate(rows) if ids), key=lambda i: len(rows[i]))
        with torch.inference_mode(), progress.bar(len(order), "embedding", "text") as shown:
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                states = run([[first, *rows[i], last] for i in chosen])
                found[chosen] = normalize(states.float(), dim=-1).cpu()
                shown.update(len(chosen))
        return found

    def _unpadded(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """(b, 384) of rows that fit the window, sorted by length; no padding."""
        assert self._ragged is not None, "asked for where there is one"
        return self._ragged.means(rows) if self.pooling == "mean" else self._ragged.firsts(rows)

    def _padded(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """The same through transformers' own forward pass, padded to the longest."""
        ids = [torch.tensor(row) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(self.device.handle)
        lengths = torch.tensor([len(row) for row in ids], device=self.device.handle)
        mask = torch.arange(padded.shape[1], device=self.device.handle) < lengths[:, None]
        states = self.hf(input_ids=padded, attention_mask=mask.long()).last_hidden_state
        if self.pooling == "first":
            return torch.as_tensor(states[:, 0])
        return torch.as_tensor((states * mask[..., None]).sum(1) / lengths[:, None])


def _windows(ids: list[int], room: int) -> Iterator[list[int]]:
    """As few pieces as have room, of equal length but for rounding."""
    count = max(1, math.ceil(len(ids) / room))
    edges = [len(ids) * i // count for i in range(count + 1)]
    yield from (ids[a:b] for a, b in pairwise(edges))
