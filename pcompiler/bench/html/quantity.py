"""Numbers as people say them: 6.49 µs, 131,000 /s, 22.3 MB, 7.7×."""

from __future__ import annotations

import math

SMALLER = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
SMALL = 0.1005  # a ratio below this reads better as a fraction
LARGER = (("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1.0))


def quantity(value: float | None, unit: str) -> str:
    """Three figures and a unit; nothing for none."""
    if value is None:
        return ""
    if unit == "s":
        return _scaled(value, SMALLER)
    if unit == "bytes":
        return _scaled(value, LARGER)
    if unit in ("%", "×"):
        return f"{number(value)}{chr(0xA0) if unit == '%' else ''}{unit}"
    if unit == "1/s":
        unit = "/s"
    return f"{number(value)}\N{NO-BREAK SPACE}{unit.replace('cpu s', 'CPU-s')}".rstrip()


def number(value: float) -> str:
    """Three significant figures, thousands apart, without an exponent where that is short."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    if digits > 6:
        return f"{value:.2g}"
    rounded = round(value, digits)
    return f"{rounded:,.0f}" if digits <= 0 else f"{rounded:.{digits}f}".rstrip("0").rstrip(".")


def ratio(value: float) -> str:
    """How many times as good: 7.7×, 0.79×, 1/219."""
    if math.isinf(value):
        return "∞"
    if 0 < value < SMALL:
        return f"1/{number(1 / value)}"
    shown = number(value)
    return "just under 1×" if shown == "1" and value < 1 else f"{shown}×"


def _scaled(value: float, units: tuple[tuple[str, float], ...]) -> str:
    size = abs(value)
    name, factor = next(((n, f) for n, f in units if size >= f * 0.9995), units[-1])
    return f"{number(value / factor) if value else 0}\N{NO-BREAK SPACE}{name}"
