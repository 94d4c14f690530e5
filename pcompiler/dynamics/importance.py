"""How much the residual stream would miss each key of the prompt.

Without key j, token i's head loses a_ij (v_j − o) of its output, a_ij the attention weight and o
the output; W_o makes that a change of the stream. A key's importance is the root mean square of
that change over the probes, relative to the stream, so that one budget can be shared by heads and
layers whose outputs differ in size. Attention weights alone (arXiv 2602.16284) cannot tell a head
that writes much from one that hardly writes.
"""

from __future__ import annotations

import torch

from pcompiler.dynamics.blocks import Block


class Importance:
    """Streamed sums over packs, in one layer.

    Args:
        block: the layer.
        values: (H_kv, n, d_head) of the keys.
        heads: H.
    """

    def __init__(self, block: Block, values: torch.Tensor, heads: int) -> None:
        self._block, self._values, self._heads = block, values, heads
        device = values.device
        self._squares = torch.zeros(heads, values.shape[1], device=device)
        self._output = torch.zeros(heads, values.shape[2], device=device)
        self._rows = 0.0
        self._attended, self._moved, self._stream = torch.zeros(3, device=device).unbind()

    def seen(self, weights: torch.Tensor, output: torch.Tensor, weight: float) -> None:
        """Add a pack's attention.

        Args:
            weights: (H, t, n) on the keys.
            output: (H, t, d_head).
            weight: how much each token counts.
        """
        self._squares += weight * weights.float().square().sum(1)
        self._output += weight * output.sum(1)
        self._rows += weight * weights.shape[1]

    def moved(
        self, attended: torch.Tensor, before: torch.Tensor, after: torch.Tensor, w: torch.Tensor
    ) -> None:
        """Add what attention does to the stream.

        Args:
            attended: (t, d), W_o's output.
            before: (t, d), the stream before the attention.
            after: (t, d), the stream after it.
            w: (t,) how much each token counts.
        """
        before, after = before.float(), after.float()
        self._attended += w @ attended.float().square().sum(-1)
        self._moved += w @ (after - before).square().sum(-1)
        self._stream += w @ after.square().sum(-1)

    def result(self) -> torch.Tensor:
        """(H_kv, n), a group's heads pooled; 0.1: without it a tenth of the stream would differ."""
        groups = self._heads // len(self._values)
        mean_output = self._output / self._rows
        values = self._values.float().repeat_interleave(groups, dim=0)
        apart = values - mean_output[:, None]
        lengths = ((apart @ self._block.output_gram()) * apart).sum(-1)
        # A norm after the attention (Gemma) rescales what W_o gives; elsewhere this is 1.
        rescaled = self._moved / self._attended
        squares = self._squares * lengths * rescaled / self._stream
        pooled: torch.Tensor = squares.view(len(self._values), groups, -1).mean(1)
        return pooled.sqrt()

    def attention(self) -> torch.Tensor:
        """(H_kv, n), root mean square of the attention weights alone, as in arXiv 2602.16284."""
        squares = (self._squares / self._rows).view(len(self._values), -1, self._values.shape[1])
        pooled: torch.Tensor = squares.mean(1)
        return pooled.sqrt()
