"""Which layers are patched: those whose patch brings answers nearer to the teacher's.

A patch is fitted to the teacher's stream, and a stream that is nearer in the mean of squares can
still be further off in what is said: in SmolLM2 without a prompt the first third of the layers,
whose tokens trade sinks of their own, is better left as it is. So the answers are asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pcompiler.dynamics.answers import answers_of, kl_from
from pcompiler.dynamics.blocks import Block, unembed
from pcompiler.dynamics.capture import Before, Walker
from pcompiler.dynamics.packs import Pack
from pcompiler.model import LanguageModel
from pcompiler.ranges import ranged
from pcompiler.runtime.prefix import Prefix

MOST_TOKENS = 1024  # that are listened to: each layer takes them through all that follow


class Listener:
    """Hears what validation probes would be answered if all later layers were left alone.

    For students without a cache: what their tokens see in later layers is known.

    Args:
        model: the language model.
        teacher: the full prompt.
        packs: a student's, validation probes only.
        numbers: of these packs among all of the student's.

    Attributes:
        kept: (T,) nats of each answer token with the patches that were kept; none: nothing yet.
    """

    def __init__(
        self, model: LanguageModel, teacher: Prefix, packs: Sequence[Pack], numbers: Sequence[int]
    ) -> None:
        self.numbers = numbers
        self._walker = Walker(model, packs, 0)
        self._known = answers_of(model, teacher, [row for pack in packs for row in pack.rows])
        self.kept: torch.Tensor | None = None

    @ranged("listen")
    def keeps(
        self, layer: int, without: Mapping[int, torch.Tensor], h: Mapping[int, torch.Tensor]
    ) -> bool:
        """Whether answers are no further off with a layer's patch than without, up to chance.

        Chance is a standard error of the difference, over the answers' tokens.

        Args:
            layer: the layer.
            without: of each pack by number the stream after it, (t, d), without the patch.
            h: the same with it.
        """
        if self.kept is None:
            self.kept = self._kl(layer, without)
        found = self._kl(layer, h)
        worse = found - self.kept
        kept = bool(worse.mean() <= worse.std() / len(worse) ** 0.5)
        if kept:
            self.kept = found  # which is what the next layer without a patch leads to as well
        return kept

    def _kl(self, layer: int, h: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """(T,) nats of each answer token, the user's weighted as in a fit; from after a layer."""
        walker = self._walker
        model, card = walker.model, walker.model.card
        for i, number in enumerate(self.numbers):
            walker.h[i] = h[number]
        none = walker.h[0].new_zeros(card.kv_heads, 0, card.head_dim)
        before = Before(none, none, torch.zeros(card.kv_heads, 0, device=none.device))
        for later in range(layer + 1, card.layers):
            block = Block(model, later)
            walker.enter(block)
            walker.look(block, before)
            for group in walker.groups:
                r = block.mix(walker.h[group], block.project_out(walker.output[group]))
                walker.h[group] = block.after(r)
        ends = [walker.h[i][pack.answering] for i, pack in enumerate(walker.packs)]
        weights = [
            torch.full((len(end),), pack.weight)
            for end, pack in zip(ends, walker.packs, strict=True)
        ]
        each = kl_from(self._known, unembed(model, torch.cat(ends)))
        return each * torch.cat(weights).to(each.device)
