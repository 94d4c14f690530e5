"""What it costs a get to be counted for /metrics."""

from __future__ import annotations

from collections.abc import Sequence

from pcompiler import meter
from pcompiler.bench.harness import Figure, Setting
from pcompiler.bench.race import race
from pcompiler.bench.storage import RECORD_BYTES, Ours, Pair
from pcompiler.errors import ConfigError
from pcompiler.serve.metrics import Exporter


def metered(setting: Setting, ours: Ours, pairs: Sequence[Pair], lap_s: float) -> list[Figure]:
    """Gets with a listener, reporting what they came to included, in turn with gets without.

    None where prometheus-client, an extra, is not installed.
    """
    try:
        exporter = Exporter()
    except ConfigError:
        return []

    def listening() -> None:
        meter.attach(exporter)
        try:
            ours.get(pairs)
            meter.report()
        finally:
            meter.attach(None)

    size = RECORD_BYTES * len(pairs)
    speed = race(listening, lambda: ours.get(pairs), size, setting.repeat, lap_s)
    return [
        Figure(
            "storage_performance", "get, hot, share of its speed while metrics are kept",
            speed.share * 100, "%", "higher", spread=speed.spread * 100,
            samples=tuple(share * 100 for share in speed.shares),
        )
    ]  # fmt: skip
