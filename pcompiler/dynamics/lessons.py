"""What refinement learns from: the teacher's answers, and its streams on the way to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from pcompiler import progress
from pcompiler.dynamics.answers import Answers, likeliest
from pcompiler.dynamics.blocks import to_logits
from pcompiler.dynamics.packs import Row
from pcompiler.dynamics.stream import Stream
from pcompiler.model import LanguageModel
from pcompiler.runtime.packed import PackedRow, packs
from pcompiler.runtime.patch import patched
from pcompiler.runtime.prefix import Prefix

PACK_TOKENS = 512  # that the teacher reads at once, beside its prompt


@dataclass(frozen=True)
class Said:
    """What a forward pass over some rows came to.

    Attributes:
        logits: (Σ T, V) over all answers, float32.
        streams: of each row (t, L − 1, d), after every block but the last; of the tokens that the
            teacher has as well: the query's, and the answer's but for the last.
    """

    logits: torch.Tensor
    streams: list[torch.Tensor]


class Lessons:
    """The teacher's answers and streams on some rows, the streams in bfloat16.

    Attributes:
        answers: of each row.
    """

    def __init__(self, model: LanguageModel, teacher: Prefix, rows: Sequence[Row]) -> None:
        layers, d = model.card.layers - 1, model.card.hidden
        lengths = [len(row.query) + len(row.answer) - 1 for row in rows]
        self.answers: list[Answers] = []
        self._shape = layers, d
        self._streams = Stream(model.device, lengths, layers * d, torch.bfloat16)
        with torch.no_grad(), progress.bar(len(rows), "lessons", "probe") as shown:
            for numbers in packs(lengths, PACK_TOKENS):
                some = [rows[i] for i in numbers]
                said = say(model, teacher, some)
                counts = [len(row.answer) for row in some]
                self.answers += map(likeliest, torch.split(said.logits.log_softmax(-1), counts))
                for i, stream in zip(numbers, said.streams, strict=True):
                    self._streams[i] = stream.flatten(1)
                shown.update(len(numbers))

    def streams(self, i: int) -> torch.Tensor:
        """(t, L − 1, d) of a row, float32."""
        stream = self._streams[i].float()
        return stream.view(len(stream), *self._shape)


def say(model: LanguageModel, prefix: Prefix, rows: Sequence[Row]) -> Said:
    """One forward pass over the rows after a prefix, with whatever gradients are wanted."""
    return (_after_a_cache if prefix.length else _after_nothing)(model, prefix, rows)


def _after_a_cache(model: LanguageModel, prefix: Prefix, rows: Sequence[Row]) -> Said:
    """One packed row, so that the cache is there once."""
    cache, dtype = DynamicCache(), model.device.dtype
    for layer, width in enumerate(prefix.widths):
        keys, values = (t[layer, None, :, :width].to(dtype) for t in (prefix.keys, prefix.values))
        cache.update(keys, values, layer)
    packed = PackedRow(model, prefix, len(rows))
    texts = [[*row.query, *row.answer[:-1]] for row in rows]
    out = packed.run(texts, range(len(rows)), [len(row.answer) for row in rows], cache)
    return Said(out.logits, list(torch.split(out.streams, [len(text) for text in texts])))


def _after_nothing(model: LanguageModel, prefix: Prefix, rows: Sequence[Row]) -> Said:
    """Texts side by side, filled up behind, where nobody looks."""
    texts = [[*row.bare, *row.answer[:-1]] for row in rows]
    width = max(map(len, texts))
    ids = model.tensor([t for text in texts for t in [*text, *text[-1:] * (width - len(text))]])
    with patched(model, prefix.patch):
        out = model.hf.model(ids.view(-1, width), use_cache=False, output_hidden_states=True)
    ends = [(len(text) - len(row.answer), len(text)) for text, row in zip(texts, rows, strict=True)]
    normed = torch.cat([out.last_hidden_state[i, a:b] for i, (a, b) in enumerate(ends)])
    streams = torch.stack(out.hidden_states[1:], 2)[:, :, :-1]  # the last one is normed
    leads = [len(row.bare) - len(row.query) for row in rows]
    own = [s[lead : len(text)] for s, lead, text in zip(streams, leads, texts, strict=True)]
    return Said(to_logits(model, normed), own)
