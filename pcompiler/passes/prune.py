"""Pieces go, lowest rank first, until what is left has just so many tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pcompiler.errors import BudgetError
from pcompiler.ir import Prompt
from pcompiler.passes.pieces import Pieces
from pcompiler.ranges import ranged

Count = Callable[[Sequence[str]], int]  # the segments' texts → tokens of the whole

_ROUNDS = 8  # of correcting an estimate that is seldom off by more than a few tokens
_FILLS = 8  # of what is left of the budget
_SLACK = 0.002  # of the budget that may be left unused: filling it costs a count each
_LOOSE = 0.01  # of the budget left unused: worth another try
_BLOCKS = 4  # such tries


class Pruner:
    """One ranked prompt, pruned to any budget; a larger budget keeps all that a smaller one does.

    Args:
        pieces: of a prompt.
        rank: (n,) the lowest go first, ∞ stays, −∞ goes: see ``rank.order``.
        sizes: (n,) tokens of each piece, as an estimate: exact but for what a neighbour changes.
        count: tokens of texts.
    """

    def __init__(self, pieces: Pieces, rank: np.ndarray, sizes: np.ndarray, count: Count) -> None:
        self._pieces, self._sizes, self._count = pieces, sizes, count
        fixed, free = np.isposinf(rank), ~pieces.is_frame & ~np.isneginf(rank)
        self._fixed = int((fixed & free).sum())
        self._rank = rank
        self._framed = fixed & pieces.is_frame  # a frame may be protected itself
        self._content = ~pieces.is_frame | self._framed
        self._frames = pieces.all_frames.T
        order = np.argsort(-rank, kind="stable")
        self._order = order[free[order]]
        self._counted: dict[bytes, int] = {}

    def floor(self) -> int:
        """Tokens of what has to stay."""
        self._counted.clear()
        return self._least()

    @ranged("pass prune")
    def run(self, budget: int) -> np.ndarray:
        """(n,) the pieces that are kept: what fits the budget, in tokens.

        Raises:
            BudgetError: what has to stay does not fit.
        """
        self._counted.clear()  # what is counted may have been set right since
        everything = self._first(self._order, len(self._order))
        total = self._tokens(everything)
        if total <= budget:
            return everything
        if (least := self._least()) > budget:
            raise BudgetError(
                f"what has to stay takes {least} tokens, more than the {budget} asked for; "
                "raise the rate, protect less, or fence less."
            )
        keep = self._fitted(budget, total)
        if budget - self._tokens(keep) > _LOOSE * budget and len(self._pieces.headings):
            # Too short for its headings: they become words like others.
            bare = Pruner(self._pieces.without_headings(), self._rank, self._sizes, self._count)
            keep = max(keep, bare._fitted(budget, total), key=self._tokens)
        return keep

    def _fitted(self, budget: int, total: int) -> np.ndarray:
        """The best filling found.

        Where only blocks that must not be torn are left, and none fits, the best of them is kept
        for sure and smaller pieces go in its place.
        """
        order, fixed = self._order, self._fixed
        found: list[tuple[int, np.ndarray]] = []
        for _ in range(_BLOCKS):
            fits = self._search(order, fixed, budget, total)
            keep = self._filled(self._first(order, fits), order[fits:], budget)
            found.append((budget - self._tokens(keep), keep))
            blocks = order[fixed:][~keep[order[fixed:]]]
            if found[-1][0] <= _LOOSE * budget or not len(blocks):
                break
            rest = order[fixed:]
            order = np.concatenate([order[:fixed], blocks[:1], rest[rest != blocks[0]]])
            fixed += 1
            if self._tokens(self._first(order, fixed)) > budget:
                break
        return min(found, key=lambda one: one[0])[1]

    def _search(self, order: np.ndarray, fixed: int, budget: int, total: int) -> int:
        """How many pieces of an order fit."""
        after = np.cumsum(self._sizes[order])  # tokens up to and with each piece
        low, high = fixed, len(order)
        error = total - float(after[-1])
        for _ in range(_ROUNDS):
            if high - low <= 1:
                break
            guess = int(np.searchsorted(after, budget - error, "right"))
            number = min(max(guess, low + 1), high - 1)
            found = self._tokens(self._first(order, number))
            low, high = (number, high) if found <= budget else (low, number)
            if 0 <= budget - found <= _SLACK * budget:
                break
            error = found - float(after[number - 1])
        return low

    def _filled(self, keep: np.ndarray, rest: np.ndarray, budget: int) -> np.ndarray:
        """Add the best of the rest that still fit: words of the sentence that did not fit whole."""
        for _ in range(_FILLS):
            left = budget - self._tokens(keep)
            fitting = self._greedy(rest, left)
            if left <= _SLACK * budget or not len(fitting):
                break
            added = self._most(keep, fitting, budget)
            keep = self._with(keep, fitting[:added])
            if added < len(fitting):
                rest = rest[np.flatnonzero(rest == fitting[added])[0] + 1 :]
        return keep

    def _greedy(self, rest: np.ndarray, left: float) -> np.ndarray:
        """Pieces in order, each if it fits what the ones before it have left."""
        taken = []
        for piece, size in zip(rest.tolist(), self._sizes[rest].tolist(), strict=True):
            if size <= left:
                taken.append(piece)
                left -= size
                if left <= 0:
                    break
        return np.array(taken, dtype=np.int64)

    def _most(self, keep: np.ndarray, pieces: np.ndarray, budget: int) -> int:
        """How many of the pieces fit: frames come with some, which the estimate leaves out."""
        low, high = 0, len(pieces) + 1
        guess = len(pieces)
        while high - low > 1:
            fits = self._tokens(self._with(keep, pieces[:guess])) <= budget
            low, high = (guess, high) if fits else (low, guess)
            guess = (low + high) // 2
        return low

    def _with(self, keep: np.ndarray, pieces: np.ndarray) -> np.ndarray:
        more = keep.copy()
        more[pieces] = True
        return self._framing(more)

    def _first(self, order: np.ndarray, number: int) -> np.ndarray:
        """(n,) the first pieces of an order, with what frames them."""
        keep = self._framed.copy()
        keep[order[:number]] = True
        return self._framing(keep)

    def _framing(self, keep: np.ndarray) -> np.ndarray:
        """Add the frames of what is kept; whether a scope has any is read off a running count."""
        piece, first, last = self._frames
        seen = np.concatenate([[0], np.cumsum(keep & self._content)])
        keep[piece[seen[last] > seen[first]]] = True
        return keep

    def _least(self) -> int:
        return self._tokens(self._first(self._order, self._fixed))

    def _tokens(self, keep: np.ndarray) -> int:
        key = keep.tobytes()
        if key not in self._counted:
            self._counted[key] = self._count(self._pieces.texts(keep))
        return self._counted[key]

    def prompt(self, keep: np.ndarray) -> Prompt:
        """What is left of the prompt with some pieces kept."""
        return self._pieces.prompt.with_texts(self._pieces.texts(keep))

    def strays(self, keep: np.ndarray) -> float:
        """Tokens of protected spans of whose sentences nothing else is kept."""
        pieces = self._pieces
        words = ~pieces.protected & ~pieces.is_frame
        count = int(pieces.sentence.max(initial=-1)) + 1
        had = np.bincount(pieces.sentence, words, count)
        has = np.bincount(pieces.sentence, words & keep, count)
        stray = pieces.protected & ((had > 0) & (has == 0))[pieces.sentence]
        return float(self._sizes[stray].sum())
