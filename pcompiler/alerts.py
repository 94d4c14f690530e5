"""The alerts, as data: what ``monitoring/alerts.yml`` is generated from and what bench runs heed.

    for found in raised(run.figures, memory.limit_bytes()):
        print(found)

A limit on a histogram is one of the metric's bucket bounds, so its quantile crosses the limit
exactly when too many measurements do.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

Comparison = Literal[">", "<"]
_COMPARE = {">": operator.gt, "<": operator.lt}


class Measured(Protocol):
    """A figure of a benchmark."""

    @property
    def suite(self) -> str:
        """Which suite it is of."""
        ...

    @property
    def name(self) -> str:
        """What it is."""
        ...

    @property
    def value(self) -> float:
        """In its unit."""
        ...

    @property
    def unit(self) -> str:
        """One of s, steps, %, bytes, and others."""
        ...


@dataclass(frozen=True)
class Alert:
    """One threshold.

    Attributes:
        name: as Prometheus shows it.
        limit: the last value that is well, in ``unit``.
        unit: s, steps or %; of a memory limit where the figure is in bytes.
        comparison: what the value does to the limit when the alert fires.
        lasting: for how long it does before it fires, as Prometheus writes durations.
        severity: page or warning.
        summary: what is wrong, a sentence; {{ $labels.x }} is filled in by Prometheus.
        value: the PromQL expression that is compared with the limit.
        figures: (suite, pattern of its figures' names) that the limit is for as well; *: any.
    """

    name: str
    limit: float
    unit: Literal["s", "steps", "%"]
    comparison: Comparison
    lasting: str
    severity: Literal["page", "warning"]
    summary: str
    value: str
    figures: tuple[tuple[str, str], ...]

    @property
    def expression(self) -> str:
        """The rule in PromQL."""
        return f"{self.value} {self.comparison} {self.limit:g}"

    def of(self, figure: Measured, memory_limit_bytes: int) -> float | None:
        """The figure's value in this alert's unit; none: it is not about this figure."""
        if not any(
            suite in (figure.suite, "*") and re.search(pattern, figure.name)
            for suite, pattern in self.figures
        ):
            return None
        if (self.unit, figure.unit) == ("%", "bytes"):
            return 100 * figure.value / memory_limit_bytes
        return figure.value if figure.unit == self.unit else None

    def is_raised_by(self, value: float) -> bool:
        """Whether a value, in ``unit``, is beyond the limit."""
        return bool(_COMPARE[self.comparison](value, self.limit))


@dataclass(frozen=True)
class Raised:
    """A figure beyond a limit; ``value`` is in the alert's unit."""

    alert: Alert
    suite: str
    figure: str
    value: float

    def __str__(self) -> str:
        """For a table of a run."""
        alert = self.alert
        return (
            f"{alert.name}: {self.suite}: {self.figure}: {self.value:.4g} {alert.unit} "
            f"{alert.comparison} {alert.limit:g} {alert.unit}"
        )


ALERTS = (
    Alert(
        "SlowCompilation", 1.0, "s", ">", "5m", "warning",
        "One in twenty compiles to {{ $labels.target }} takes over a second.",
        'histogram_quantile(0.95, sum by (target, le) '
        '(rate(pcompiler_compile_seconds_bucket{result="compiled"}[10m])))',
        (("compilation", r"^(compile to|repeated compile)"),),
    ),
    Alert(
        "ManyIterations", 150, "steps", ">", "5m", "warning",
        "One in twenty solves by {{ $labels.solver }} takes over 150 iterations.",
        "histogram_quantile(0.95, sum by (solver, le) "
        "(rate(pcompiler_solver_iterations_bucket[10m])))",
        (("weight_dynamics", r": steps to 1e-4"),),
    ),
    Alert(
        "SlowStorage", 0.01, "s", ">", "5m", "page",
        "One in a hundred storage operations ({{ $labels.operation }}) takes over 10 ms.",
        "histogram_quantile(0.99, sum by (operation, le) "
        "(rate(pcompiler_store_seconds_bucket[5m])))",
        (("storage_performance", r", (mean|p50|p99)$|^artifact put|^… get outside"),),
    ),
    Alert(
        "MemoryNearLimit", 90, "%", ">", "2m", "page",
        "All processes together use over 90 % of the memory they may use.",
        "100 * sum(pcompiler_memory_bytes) / max(pcompiler_memory_limit_bytes)",
        (("*", r"peak memory"),),
    ),
    Alert(
        "LowCacheHitRate", 80, "%", "<", "15m", "warning",
        "The {{ $labels.cache }} cache answers fewer than 80 % of what it is asked.",
        '100 * sum by (cache) (rate(pcompiler_cache_requests_total{result="hit"}[15m])) '
        "/ sum by (cache) (rate(pcompiler_cache_requests_total[15m]))",
        (("embedding_generation", r"hit rate$"),),
    ),
    Alert(
        "UploadsFail", 50, "%", ">", "15m", "warning",
        "More than half of the tries to upload artifacts to the remote fail.",
        '100 * sum(rate(pcompiler_remote_upload_seconds_count{result="failed"}[15m])) '
        "/ sum(rate(pcompiler_remote_upload_seconds_count[15m]))",
        (),  # no suite has a remote
    ),
)  # fmt: skip


def raised(figures: Iterable[Measured], memory_limit_bytes: int) -> list[Raised]:
    """What a run's figures raise, in their order.

    Args:
        figures: of a run.
        memory_limit_bytes: that memory is a share of; see ``memory.limit_bytes``.
    """
    found = []
    for figure in figures:
        for alert in ALERTS:
            value = alert.of(figure, memory_limit_bytes)
            if value is not None and alert.is_raised_by(value):
                found.append(Raised(alert, figure.suite, figure.name, value))
    return found
