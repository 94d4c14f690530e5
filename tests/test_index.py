"""The nearest of many vectors: exact, approximate, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from test_encoder import texts, tiny_encoder

from pcompiler.embed.base import Vectors
from pcompiler.errors import ConfigError, InputError, MismatchError, VectorError
from pcompiler.store import index as indices
from pcompiler.store.index import Index

EVERY = sorted(set(texts(300)))


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return tiny_encoder().embed(EVERY)


def test_the_nearest_are_those_of_a_full_comparison(vectors: Vectors) -> None:
    found = Index(EVERY, vectors * 3, "f").nearest(vectors[7], 5, "f")
    cosines = vectors @ vectors[7]
    best = np.argsort(-cosines, kind="stable")[:5]
    assert [name for name, _ in found] == [EVERY[i] for i in best]
    np.testing.assert_allclose([c for _, c in found], cosines[best], atol=1e-6)
    assert found[0] == (EVERY[7], pytest.approx(1, abs=1e-6))


def test_chunks_change_nothing(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Index(EVERY, vectors, "f").nearest(vectors[0], 9, "f")
    monkeypatch.setattr(indices, "CHUNK", 7)
    assert [n for n, _ in Index(EVERY, vectors, "f").nearest(vectors[0], 9, "f")] == [
        n for n, _ in whole
    ]


def test_fewer_than_asked_for_are_all_of_them(vectors: Vectors) -> None:
    assert len(Index(EVERY[:3], vectors[:3], "f").nearest(vectors[0], 10, "f")) == 3
    assert Index([], np.zeros((0, 16), np.float32), "f").nearest(vectors[0], 1, "f") == []


def test_a_text_without_a_token_is_near_to_nothing(vectors: Vectors) -> None:
    assert Index(EVERY, vectors, "f").nearest(np.zeros(16, np.float32), 3, "f") == []


def test_the_graph_finds_what_the_product_finds(vectors: Vectors) -> None:
    pytest.importorskip("usearch")
    near, exact = Index(EVERY, vectors, "f", True), Index(EVERY, vectors, "f", False)
    assert not near.is_exact
    assert exact.is_exact
    for query in vectors[:50]:
        best = exact.nearest(query, 1, "f")[0]
        assert near.nearest(query, 5, "f")[0] == (best[0], pytest.approx(best[1], abs=1e-6))


def test_above_100000_the_graph_is_taken_where_it_is_installed(
    vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch")
    monkeypatch.setattr(indices, "EXACT", 10)
    assert not Index(EVERY, vectors, "f").is_exact
    monkeypatch.setitem(sys.modules, "usearch", None)
    monkeypatch.setattr(indices, "find_spec", lambda _: None)
    assert Index(EVERY, vectors, "f").is_exact
    with pytest.raises(ConfigError, match="pip install"):
        Index(EVERY, vectors, "f", approximate=True)


def test_vectors_that_do_not_fit_are_refused(vectors: Vectors) -> None:
    index = Index(EVERY, vectors, "one")
    with pytest.raises(VectorError, match="8 dimensions, not 16"):
        index.nearest(vectors[0, :8], 1, "one")
    with pytest.raises(MismatchError, match="encoder two"):
        index.nearest(vectors[0], 1, "two")
    with pytest.raises(InputError, match="0 neighbours"):
        index.nearest(vectors[0], 0, "one")
    broken = vectors.copy()
    broken[4, 0] = np.inf
    for given in (lambda: Index(EVERY, broken, "one"), lambda: index.nearest(broken[4], 1, "one")):
        with pytest.raises(VectorError, match="NaN or infinity"):
            given()
    with pytest.raises(VectorError, match="for 2 ids"):
        Index(EVERY[:2], vectors, "one")
    with pytest.raises(VectorError, match="equally many"):
        Index(["a", "b"], [[1.0], [1.0, 2.0]], "one")  # type: ignore[arg-type]
