"""What /metrics says, read as Prometheus reads it, before and after something happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from pcompiler.measures import METRICS
from pcompiler.serve.metrics import Exporter

Series = tuple[str, frozenset[tuple[str, str]]]


class Reading:
    """An exporter's page; ``change`` is by how much a series grew inside ``watching``.

    Attributes:
        seen: metrics of which some series was read, and was not 0.
    """

    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self.seen: set[str] = set()
        self._before: dict[Series, float] = {}
        self._after: dict[Series, float] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._before = self._page()
        yield
        self._after = self._page()

    def value(self, name: str, part: str = "", **labels: str) -> float:
        """How a series stands at the end; ``part`` of a histogram: _count, _sum or _bucket."""
        return self._read(name, part, labels, 0.0)

    def change(self, name: str, part: str = "", **labels: str) -> float:
        """By how much it is more than before."""
        series = METRICS[name].exported + part, frozenset(labels.items())
        return self._read(name, part, labels, self._before.get(series, 0.0))

    def _read(self, name: str, part: str, labels: dict[str, str], less: float) -> float:
        series = METRICS[name].exported + part, frozenset(labels.items())
        found = self._after.get(series, 0.0) - less
        if found:
            self.seen.add(name)
        return found

    def _page(self) -> dict[Series, float]:
        text = self.exporter.render()[0].decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
