"""What enters the MLP of every block, as a forward pass goes by, and rows of unequal length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch

from pcompiler.errors import InputError
from pcompiler.model import LanguageModel

See: TypeAlias = Callable[[int, torch.Tensor, torch.Tensor], None]


def norm_before_mlp(block: Any) -> Any:  # noqa: ANN401 - a transformers module
    """The RMSNorm between residual stream and MLP; Gemma 2 and 3 call it by another name."""
    return getattr(block, "pre_feedforward_layernorm", None) or block.post_attention_layernorm


@contextmanager
def watching(model: LanguageModel, see: See) -> Iterator[None]:
    """Call ``see(layer, r, z)`` in each block of a forward pass, before its MLP runs.

    r (batch, tokens, d) is the residual stream after the attention, z = RMSNorm(r).
    """

    def hook(layer: int) -> Callable[..., None]:
        return lambda _module, arguments, output: see(layer, arguments[0], output)

    with ExitStack() as stack:
        for layer, block in enumerate(model.hf.model.layers):
            stack.enter_context(norm_before_mlp(block).register_forward_hook(hook(layer)))
        yield


def padded(
    model: LanguageModel, rows: Sequence[Sequence[int]], width: int | None = None
) -> torch.Tensor:
    """(rows, width) ids, filled up on the right, where no real token can see.

    Args:
        model: the language model.
        rows: token ids.
        width: at least the longest row, which it is by default.

    Raises:
        InputError: no rows, an empty row, or one that is longer than the model's window.
    """
    lengths = [len(row) for row in rows]
    if not lengths or min(lengths) == 0:
        raise InputError("there is nothing to run: give one or more queries, none of them empty.")
    if max(lengths) > model.window:
        raise InputError(
            f"a context and its query have {max(lengths)} tokens in all; this model was made for "
            f"{model.window}. Shorten the context."
        )
    filled = [[*row, *[row[-1]] * ((width or max(lengths)) - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long, device=model.device.handle)


def run(model: LanguageModel, ids: torch.Tensor) -> None:
    """One forward pass over (rows, tokens) ids for what hooks see; no logits, no cache."""
    with torch.no_grad():
        model.hf.model(input_ids=ids, use_cache=False)
