"""The nearest of many vectors by cosine.

Up to 100,000 by one matrix product, which is exact: 100,000 × 256 numbers take some 11 ms.
Above that through usearch's graph (HNSW, arXiv 1603.09320), an extra; without it the product
remains, in chunks. What was built for one encoder refuses another's vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pcompiler.embed.base import Vectors, check_vectors, unit
from pcompiler.errors import ConfigError, InputError, MismatchError, VectorError

EXACT = 100_000  # entries that one product is quick enough for
CHUNK = 65_536  # rows of a product: a score each in memory, and no more
WORDS = "approximate search needs usearch: pip install 'pcompiler[search]'."
T = TypeVar("T")


class Index(Generic[T]):
    """Ids with their vectors.

    Args:
        ids: what is found, one for each vector.
        vectors: (n, width); each is divided by its length.
        fingerprint: of the encoder that made them.
        approximate: through usearch; None: above 100,000 entries, where it is installed.

    Raises:
        VectorError: not finite, or not as many as there are ids.
        ConfigError: usearch is asked for and not installed.
    """

    def __init__(
        self,
        ids: Sequence[T],
        vectors: Vectors,
        fingerprint: str,
        approximate: bool | None = None,
    ) -> None:
        rows = check_vectors(vectors)
        if len(ids) != len(rows):
            raise VectorError(f"there are {len(rows)} vectors for {len(ids)} ids.")
        if approximate and find_spec("usearch") is None:
            raise ConfigError(WORDS)
        if approximate is None:
            approximate = len(ids) > EXACT and find_spec("usearch") is not None
        self.ids, self.fingerprint, self.width = list(ids), fingerprint, rows.shape[1]
        self._rows = unit(rows)
        self._graph: Any = _graph(self._rows) if approximate else None

    @property
    def is_exact(self) -> bool:
        """Whether every entry is compared."""
        return self._graph is None

    def __len__(self) -> int:
        return len(self.ids)

    def nearest(self, query: Vectors, k: int, fingerprint: str) -> list[tuple[T, float]]:
        """The k nearest, nearest first, with their cosines; fewer where there are fewer.

        Args:
            query: (width,), of any length but zero: zeros are near to nothing.
            k: how many, 1 or more.
            fingerprint: of the encoder that made the query.

        Raises:
            MismatchError: another encoder's query.
            VectorError: of another dimension, or not finite.
            InputError: k below 1.
        """
        if k < 1:
            raise InputError(f"{k} neighbours were asked for; ask for 1 or more.")
        if fingerprint != self.fingerprint:
            raise MismatchError(
                f"the query was embedded by encoder {fingerprint}, the index by "
                f"{self.fingerprint}; their cosines mean nothing. Embed both with the same one."
            )
        row = unit(check_vectors(np.asarray(query)[None], self.width, "the query"))[0]
        if not self.ids or not row.any():
            return []
        places, cosines = self._exact(row, k) if self.is_exact else self._near(row, k)
        return [(self.ids[p], float(c)) for p, c in zip(places, cosines, strict=True)]

    def _exact(self, row: Vectors, k: int) -> tuple[NDArray[np.intp], Vectors]:
        chunks = range(0, len(self._rows), CHUNK)
        scores = np.concatenate([self._rows[at : at + CHUNK] @ row for at in chunks])
        best = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
        best = best[np.lexsort((best, -scores[best]))]
        return best, np.clip(scores[best], -1, 1)

    def _near(self, row: Vectors, k: int) -> tuple[NDArray[np.intp], Vectors]:
        found = self._graph.search(row, min(k, len(self.ids)))
        places = found.keys.astype(np.intp)
        # The graph keeps half precision; the cosines told are those of the vectors.
        cosines = self._rows[places] @ row
        order = np.argsort(-cosines, kind="stable")
        return places[order], np.clip(cosines[order], -1, 1)


def _graph(rows: Vectors) -> Any:  # noqa: ANN401 - usearch is half typed
    from usearch.index import Index as Graph

    graph = Graph(ndim=rows.shape[1], metric="ip", dtype="f16", expansion_search=512)
    graph.add(np.arange(len(rows)), rows, threads=1)
    return graph
