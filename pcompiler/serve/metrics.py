"""What components report, for Prometheus: one process or several behind one address.

The supervisor calls ``prepare()`` before it starts any process, and each process ``start()`` before
it opens a store: prometheus-client decides on import whether values live in files that all
processes share. What a process that was killed had counted stays, but for what components had not
reported yet (a second's); how things stood with it is forgotten by the next ``render``.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pcompiler import measures, meter
from pcompiler.errors import ConfigError, NotFoundError
from pcompiler.measures import Kind, Metric, Section
from pcompiler.meter import Report
from pcompiler.serve.shared import FOLDER, collect, prepare

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.registry import CollectorRegistry

__all__ = ["FOLDER", "SECTIONS", "Exporter", "prepare", "start"]

SECTIONS: tuple[Section, ...] = get_args(Section)
TICK_S = 1.0  # between reports of what components count for themselves
_BOUND_AT_START = 64  # label sets that a metric may have to be there before anything happens


class Exporter:
    """A listener of ``meter`` that keeps everything for Prometheus.

    Raises:
        ConfigError: prometheus-client is not there, or was imported before ``prepare``.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, disable_created_metrics, values
        except ImportError:
            raise ConfigError("metrics need prometheus-client; install pcompiler[serve].") from None
        self.shared = FOLDER in os.environ
        if self.shared != bool(getattr(values.ValueClass, "_multiprocess", False)):
            raise ConfigError(
                f"prometheus-client was imported before {FOLDER} was set; prepare() comes first."
            )
        # A third more series, which shared values do not have either.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._made = {m.name: _collector(m, self._registry) for m in measures.TABLE}
        self._reports: dict[tuple[object, ...], Report] = {}
        self._binding = threading.Lock()
        for metric in measures.TABLE:
            if metric.combinations <= _BOUND_AT_START:
                for chosen in product(*metric.labels.values()):
                    labels = dict(zip(metric.labels, chosen, strict=True))
                    self.bound(metric.kind, metric.name, labels)

    def bound(self, kind: Kind, name: str, labels: Mapping[str, str]) -> Report:
        """See ``meter.Listener``; a series is looked up in the table once."""
        key = (kind, name, *labels.items())
        report = self._reports.get(key)
        if report is None:
            metric = measures.find(kind, name)
            values = metric.values(labels)
            with self._binding:
                made = self._made[name].labels(*values) if values else self._made[name]
            method = {"counter": "inc", "histogram": "observe", "gauge": "set"}[kind]
            report = self._reports[key] = getattr(made, method)
        return report

    def render(self, section: str | None = None, accept: str = "") -> tuple[bytes, str]:
        """What Prometheus reads.

        Args:
            section: one of ``SECTIONS``; none: everything.
            accept: the request's header: Prometheus' text, or OpenMetrics where it asks for it.

        Returns:
            the body and its content type.

        Raises:
            NotFoundError: no such section; lists those there are.
        """
        from prometheus_client.exposition import choose_encoder

        if section is not None and section not in SECTIONS:
            raise NotFoundError(
                f"there are no metrics of {section!r}; there are: {', '.join(SECTIONS)}."
            )
        meter.report()
        encode, content_type = choose_encoder(accept)
        return encode(_Page(self._families(), _names(section))), content_type

    def _families(self) -> Iterable[Family]:
        if self.shared:
            return collect(Path(os.environ[FOLDER]))
        return self._registry.collect()


def start(process: str) -> Exporter:
    """Listen in this process, and report on it, as long as it lives.

    Args:
        process: which it is: see ``measures``, label process.

    Raises:
        MeasureError: no such process; ConfigError: see ``Exporter``.
    """
    from pcompiler.serve.vitals import Vitals

    exporter = Exporter()
    vitals = Vitals(process)
    meter.attach(exporter)
    meter.watch(vitals)
    threading.Thread(target=_tick, args=(exporter, vitals), daemon=True, name="metrics").start()
    return exporter


def _tick(exporter: Exporter, _vitals: object) -> None:
    """The thread that asks for reports; it also keeps the vitals alive."""
    pause = threading.Event()
    while meter.listener is exporter:
        try:
            meter.report()
        except Exception:  # the other numbers, and those to come, go on
            logging.getLogger(__name__).exception("metrics could not be reported")
        pause.wait(TICK_S)


def _collector(metric: Metric, registry: CollectorRegistry) -> Any:  # noqa: ANN401
    import prometheus_client as client

    name, labels = f"pcompiler_{metric.name}", tuple(metric.labels)
    text = f"{metric.help} Unit: {metric.unit}."
    if metric.kind == "counter":
        return client.Counter(name, text, labels, registry=registry)
    if metric.kind == "histogram":
        return client.Histogram(name, text, labels, registry=registry, buckets=metric.buckets)
    return client.Gauge(name, text, labels, registry=registry, multiprocess_mode=metric.across)


def _names(section: str | None) -> Collection[str]:
    chosen = (m for m in measures.TABLE if section in (None, m.section))
    return {f"pcompiler_{metric.name}" for metric in chosen}


class _Page:
    """Some families, as the library's encoders take them."""

    def __init__(self, families: Iterable[Family], names: Collection[str]) -> None:
        self._families, self._names = families, names

    def collect(self) -> Iterator[Family]:
        """Those of the page, by name, so that a page reads alike each time."""
        chosen = (family for family in self._families if family.name in self._names)
        yield from sorted(chosen, key=lambda family: family.name)
