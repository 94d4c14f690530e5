"""A student on its way through the layers: each is compacted, patched, and only then left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch.nn.functional import pad

from pcompiler import clock, meter, progress
from pcompiler.dynamics.blocks import Block
from pcompiler.dynamics.capture import Before, Teacher, Walker
from pcompiler.dynamics.listener import Listener
from pcompiler.dynamics.matching import keep, match
from pcompiler.dynamics.moments import Moments
from pcompiler.model import LanguageModel
from pcompiler.ranges import of_layer, ranged
from pcompiler.runtime.packed import packs
from pcompiler.runtime.patch import Delta, Patch
from pcompiler.runtime.prefix import GONE, Prefix, nothing

SUM_TOKENS = 2048  # rows that are multiplied at once
SINK_TOKENS = 3  # first positions without a cache: the attention sink, with enormous activations
ASKING_WEIGHT = 0.2  # of a query's tokens beside an answer's, which are what has to come out right

# A layer and the teacher, which has just left it → positions of keys to keep, (H_kv, m).
Chooser: TypeAlias = Callable[[int, Teacher], torch.Tensor]
# A layer, moments of fitting and of validation rows → its delta; none: better left as it is.
PatchSolver: TypeAlias = Callable[[int, Moments, Moments], "Delta | None"]


@dataclass
class Student:
    """What a student is made of, and what has been made of it so far.

    Attributes:
        walker: its streams.
        choose: which keys to keep in a layer; none: no cache.
        matched: fit β and values, or keep the chosen keys as they are.
        solve: makes each layer's patch; none: no patch.
        listener: decides which of them stay; none: all do.
        seconds: that this student's own part of the walk took.
        solving_s: of these, fitting masses and values, and solving for the patch.
    """

    walker: Walker
    choose: Chooser | None = None
    matched: bool = True
    solve: PatchSolver | None = None
    listener: Listener | None = None
    layers: list[Before] = field(default_factory=list)
    deltas: dict[int, Delta] = field(default_factory=dict)
    seconds: float = 0.0
    solving_s: float = 0.0

    def __post_init__(self) -> None:
        model = self.walker.model
        self.features = self.walker.stream(model.card.intermediate)
        self._downed = self.walker.stream(model.card.hidden)

    def advance(self, block: Block, layer: int, teacher: Teacher) -> None:
        """Go through one block, behind the teacher."""
        h = self.walker.h
        self.walker.enter(block)
        self._look(block, layer, teacher)
        for group in self.walker.groups:
            r = block.mix(h[group], block.project_out(self.walker.output[group]))
            u = block.features(r)
            h[group], self.features[group], self._downed[group] = r, u, block.down(u)
        delta = self._patch(block, layer, teacher)
        if delta is not None and not self._helps(block, layer, delta):
            delta = None
        if self.solve is not None:
            meter.count("patched_layers", outcome="left_out" if delta is None else "kept")
        for group in self.walker.groups:
            h[group] = self._after(block, group, delta)
        if delta is not None:
            self.deltas[layer] = delta

    def _after(self, block: Block, packs: int | slice, delta: Delta | None) -> torch.Tensor:
        """(t, d) stream after the block's MLP, with a patch or without."""
        out = self._downed[packs]
        out = out if delta is None else out + delta(self.features[packs])
        return block.finish(self.walker.h[packs], out)

    def _helps(self, block: Block, layer: int, delta: Delta) -> bool:
        if self.listener is None:
            return True
        start = clock.seconds()
        without, patched = (
            {i: self._after(block, i, tried) for i in self.listener.numbers}
            for tried in (None, delta)
        )
        helps = self.listener.keeps(layer, without, patched)
        self.solving_s += clock.seconds() - start
        return helps

    def _look(self, block: Block, layer: int, teacher: Teacher) -> None:
        """Choose what stands before the packs, and let them attend to it."""
        context = teacher.context(layer)
        if self.choose is None:
            self.walker.look(block, keep(context, context.positions[:, :0]))
            return
        kept = keep(context, self.choose(layer, teacher))
        if self.matched:
            start = clock.seconds()
            kept = match(self.walker, block, teacher, context, kept)
            self.solving_s += clock.seconds() - start
        else:
            self.walker.look(block, kept)
        self.layers.append(kept)

    @ranged("solve patch")
    def _patch(self, block: Block, layer: int, teacher: Teacher) -> Delta | None:
        """Sums over all packs, between attention and MLP, then the solution."""
        if self.solve is None:
            return None
        start = clock.seconds()
        card, device = self.walker.model.card, self.walker.model.device.handle
        fitting, validation = (Moments(card.intermediate, card.hidden, device) for _ in range(2))
        for sums, of_validation in ((fitting, False), (validation, True)):
            for some in self._together(of_validation):
                rows = [self._rows(block, i, teacher) for i in some]
                sums.add(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
        delta = self.solve(layer, fitting, validation)
        self.solving_s += clock.seconds() - start
        return delta

    def _together(self, validation: bool) -> Iterator[list[int]]:
        """Numbers of packs whose rows are added to the sums at once: fewer, larger products."""
        of = [i for i, pack in enumerate(self.walker.packs) if pack.validation == validation]
        for group in packs([len(self.walker.packs[i].tokens) for i in of], SUM_TOKENS):
            yield [of[j] for j in group]

    def _rows(self, block: Block, i: int, teacher: Teacher) -> tuple[torch.Tensor, ...]:
        """Of one pack features (t, d_ff), targets (t, d) and weights (t,), w/‖y_C‖².

        Without a cache a query's tokens count less than an answer's, and the first tokens are the
        attention sink, which the teacher has in its prompt. They count as rows that want nothing,
        w/‖y‖²: left out, they would be whatever the patch makes of them, and every later token
        attends to them.
        """
        pack, h, downed = self.walker.packs[i], self.walker.h[i], self._downed[i]
        wanted = teacher.h[i][pack.twin.clamp_min(0)]
        missing = block.missing(wanted, h, downed)
        size = wanted.float().square().sum(-1)
        counts = (pack.twin >= 0).float()
        if self.choose is None:
            counts = torch.where(pack.answering, counts, ASKING_WEIGHT * counts)
            sink = pack.offset < SINK_TOKENS
            missing = missing.masked_fill(sink[:, None], 0.0)
            size = torch.where(sink, block.finish(h, downed).float().square().sum(-1), size)
            counts = counts.masked_fill(sink, 1.0)
        return self.features[i], missing, pack.weight * counts / size

    def prefix(self) -> Prefix:
        """The student as it runs."""
        model = self.walker.model
        patch = Patch(self.deltas) if self.deltas else None
        if self.choose is None:
            return replace(nothing(model), patch=patch)
        m = max(layer.keys.shape[1] for layer in self.layers)

        def stacked(name: str, fill: float = 0) -> torch.Tensor:
            tensors = [getattr(layer, name) for layer in self.layers]
            ends = [(0, 0) if t.dim() == 3 else () for t in tensors]  # pad() counts from the last
            rows = [
                pad(t, (*end, 0, m - t.shape[1]), value=fill)
                for t, end in zip(tensors, ends, strict=True)
            ]
            return torch.stack(rows)

        bias, positions = stacked("bias", GONE), stacked("positions")
        return Prefix(stacked("keys"), stacked("values"), self.walker.start, bias, positions, patch)


def walk(
    model: LanguageModel, teacher: Teacher, students: Sequence[Student], label: str = "fitting"
) -> None:
    """Take the teacher and any number of students through all layers, side by side."""
    with torch.no_grad(), progress.bar(model.card.layers, label, "layer") as shown:
        for layer in range(model.card.layers):
            block = Block(model, layer)
            with of_layer("teacher", layer, model.card.layers):
                teacher.advance(block, layer)
            for student in students:
                start = clock.seconds()
                with of_layer("student", layer, model.card.layers):
                    student.advance(block, layer, teacher)
                student.seconds += clock.seconds() - start
            shown.update()
