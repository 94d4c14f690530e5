from typing import Any

from benches.semantic_table import table


def _context(kind: str, *rows: dict[str, Any]) -> dict[str, Any]:
    whole = {"method": "full prompt", "rate_met": 1.0, "kl": 0.0, "seconds": 3.0, "cpu_s": 2.0}
    return {"kind": kind, "rows": [whole, *rows]}


def _row(rate: float, **figures: float) -> dict[str, Any]:
    return {"method": "head", "rate": rate, "rate_met": rate, "cpu_s": 1.0} | figures


def _cells(shown: str, start: str) -> list[str]:
    return next(line for line in shown.splitlines() if line.startswith(start)).split()


def test_means_are_over_the_contexts_of_a_kind_and_rate() -> None:
    same = [_context("squad", _row(0.5, kl=kl), _row(0.2, kl=9.0)) for kl in (0.1, 0.3)]
    shown = table([*same, _context("role", _row(0.5, kl=5.0))])
    assert "squad: 2 prompts" in shown
    assert "role: 1 prompt\n" in shown
    assert _cells(shown, "head")[:4] == ["head", "0.50", "0.500", "0.2000"]
    assert _cells(shown, "head")[-2:] == ["0.50×", "2"]


def test_a_failure_is_counted_and_not_in_the_means() -> None:
    failed = {"method": "head", "rate": 0.5, "error": "AssertionError"}
    shown = table([_context("role", _row(0.5, kl=0.1)), _context("role", failed)])
    assert _cells(shown, "head")[3] == "0.1000"
    assert "1 (1 failed)" in shown


def test_what_a_row_does_not_have_is_a_dash() -> None:
    shown = table([_context("role", {"method": "no prompt", "rate_met": 0.0, "kl": 1.0})])
    assert _cells(shown, "no prompt")[2:] == ["–", "0.000", "1.0000", *"––––––", "1"]
