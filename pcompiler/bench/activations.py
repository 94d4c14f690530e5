"""Real text through the model: what enters one W_down, and what a patch there has to add."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch

from pcompiler.bench import ROOT
from pcompiler.errors import InputError
from pcompiler.model import LanguageModel

PIECE = 64  # tokens that the student sees at a time
SINK = 3  # first tokens of a piece: their enormous activations would be all that is fitted


@dataclass(frozen=True)
class Activations:
    """Rows of a ridge problem, in order of the text, each weighted by 1/‖y_C‖.

    Attributes:
        inputs: (N, k), U: inputs of W_down where a piece of the text stands alone.
        targets: (N, d), T: block output with all the text before − without.
        tokens: length of the text, N·PIECE/(PIECE − SINK).
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    tokens: int

    def first(self, tokens: int) -> Activations:
        """The rows of the first tokens, as if the text ended there: no token sees a later one."""
        rows = tokens // PIECE * (PIECE - SINK)
        return Activations(self.inputs[:rows], self.targets[:rows], tokens)


def real_text() -> str:
    """The example prompt, then Python's own help pages: 100,000 tokens that every machine has.

    Raises:
        InputError: there is no examples/ beside the package.
    """
    example = ROOT / "examples" / "support_desk.md"
    if not example.is_file():
        raise InputError("the benchmarks need examples/, which only a source checkout has.")
    return "\n\n".join([example.read_text(), *(topics[name] for name in sorted(topics))])


def collect(model: LanguageModel, ids: list[int], layer: int) -> Activations:
    """Two forward passes up to ``layer``: the text as one, and in pieces that see nothing before.

    Raises:
        InputError: the text is not a whole number of pieces, or longer than the model's window.
    """
    if not ids or len(ids) % PIECE or len(ids) > model.window:
        raise InputError(
            f"a context of {len(ids)} tokens: give a multiple of {PIECE} up to {model.window}."
        )
    _, with_context = _block(model, model.tensor(ids), layer)
    inputs, without = _block(model, model.tensor(ids).view(-1, PIECE), layer)
    y_context = with_context.view(without.shape)
    weight = 1 / y_context.norm(dim=-1, keepdim=True)
    u, t = inputs * weight, (y_context - without) * weight
    return Activations(u[:, SINK:].flatten(0, 1), t[:, SINK:].flatten(0, 1), len(ids))


class _Enough(Exception):  # noqa: N818 - it ends a forward pass, it is no error
    """The block that was asked for has run."""


def _block(
    model: LanguageModel, ids: torch.Tensor, layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Input of W_down (rows, tokens, k) and output (rows, tokens, d) of a block, in float32."""
    seen: list[torch.Tensor] = []

    def into_down(_module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(arguments[0].float())

    def out_of_block(_module: object, _arguments: object, output: torch.Tensor) -> None:
        seen.append(output.float())
        raise _Enough

    block = model.hf.model.layers[layer]
    with ExitStack() as stack:
        stack.enter_context(block.mlp.down_proj.register_forward_pre_hook(into_down))
        stack.enter_context(block.register_forward_hook(out_of_block))
        try:
            with torch.no_grad():
                model.hf.model(input_ids=ids, use_cache=False)
        except _Enough:
            pass
    return seen[0], seen[1]
