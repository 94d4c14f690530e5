"""How much each token of a prompt matters: to queries that are asked of it, or by itself.

By probes: the walk's importance of each key (see ``importance``) says by how much the stream
would change without it. Its square root is summed over layers and heads, so that many heads that
look a little count for more than one that stares: on one article the plain sum left twice the KL
at half the tokens, and as much at a quarter. By surprise: −ln p of each token after those before
it, in nats, as in Selective Context (arXiv 2310.06201) and LLMLingua (arXiv 2310.05736).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pcompiler.dynamics.capture import Teacher
from pcompiler.dynamics.packs import Row, pack_rows
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import score
from pcompiler.runtime.prefix import Prefix, nothing

DEPTH = 2 / 3  # of the layers: the last ones tell no more, and take their share of the time


def by_probes(model: LanguageModel, prefix: Prefix, rows: Sequence[Row]) -> torch.Tensor:
    """(n,) of each token of the prompt, for probes that follow it.

    Args:
        model: the language model.
        prefix: the prompt, uncompacted.
        rows: the probes; answers may be of one token, which is not looked at.
    """
    depth = math.ceil(DEPTH * model.card.layers)
    importance = Teacher(model, prefix, pack_rows(rows, device=model.device)).record(depth)
    return importance.sqrt().sum((0, 1)).cpu()


def by_surprise(model: LanguageModel, ids: Sequence[int]) -> torch.Tensor:
    """(n,) of each token of the prompt; the first, which nothing precedes, has 0."""
    (log_p,) = score(model, nothing(model), [ids[:1]], [ids[1:]])
    said = torch.tensor(ids[1:], device=log_p.device)
    chosen = log_p.gather(-1, said[:, None])[:, 0]
    return torch.cat([torch.zeros(1), -chosen.cpu()])
