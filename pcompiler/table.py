"""Plain-text tables and numbers, the same in the command line, the demo and the benchmarks."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence


def render(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is aligned to the left, the others to the right."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    lines.insert(1, ["─" * w for w in widths])
    return "\n".join(
        "  ".join(
            c.rjust(w) if i else c.ljust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def side_by_side(titles: tuple[str, str], texts: tuple[str, str]) -> str:
    """Two texts in two columns as wide as the terminal allows."""
    width = (min(shutil.get_terminal_size().columns, 120) - 3) // 2
    columns = [
        [
            title,
            "─" * width,
            *(part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""]),
        ]
        for title, text in zip(titles, texts, strict=True)
    ]
    height = max(map(len, columns))
    left, right = (c + [""] * (height - len(c)) for c in columns)
    return "\n".join(f"{a:<{width}} │ {b}".rstrip() for a, b in zip(left, right, strict=True))


def nbytes(count: float) -> str:
    """1_234_567 → "1.2 MB" (powers of ten, as disks count)."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit takes everything")


def seconds(value: float | None) -> str:
    """0.0123 → "12.3 ms"."""
    if value is None:
        return "–"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def percent(share: float) -> str:
    """0.98765 → "98.77 %"; only what is exact shows as 100 %."""
    shown = f"{share:.2%}"
    return f"{'99.99%' if shown == '100.00%' and share < 1 else shown}".replace("%", " %")
