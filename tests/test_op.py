"""Operations with a twin: which way is taken, and that a wrong one is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pcompiler.errors import KernelError
from pcompiler.kernels.op import Op, Unavailable, relative_error

Double = Callable[[torch.Tensor], torch.Tensor]


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def op(fast: Double, most: int = 10) -> Op[[torch.Tensor], torch.Tensor]:
    made = Op(doubled)
    made.faster("sum", lambda x: len(x) <= most, lambda: fast)
    return made


def wrong(x: torch.Tensor) -> torch.Tensor:
    return x * 2 + 0.01


def test_a_path_is_taken_only_for_the_inputs_it_is_meant_for() -> None:
    some = op(wrong)
    assert some(torch.ones(3))[0] > 2
    assert some(torch.ones(11))[0] == 2
    assert some.chosen(torch.ones(3)) == "sum"
    assert some.chosen(torch.ones(11)) == "torch (sum: not for these inputs)"


def test_plain_torch_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCOMPILER_PLAIN", "1")
    assert op(wrong)(torch.ones(3))[0] == 2


def test_a_path_that_cannot_be_had_leaves_the_twin_and_says_why() -> None:
    tried = []

    def load() -> Double:
        tried.append(1)
        raise Unavailable("no compiler here")

    some = Op(doubled)
    some.faster("cpp", lambda _: True, load)
    assert some(torch.ones(3))[0] == some(torch.ones(3))[0] == 2
    assert tried == [1], "it is looked for once"
    assert some.chosen(torch.ones(3)) == "torch (cpp: no compiler here)"


@pytest.mark.parametrize(
    "fast",
    [
        wrong,
        lambda x: x.double() * 2,
        lambda x: x[:1] * 2,
        lambda x: x * float("nan"),
    ],
)
def test_a_wrong_path_is_found_out_when_checked(
    monkeypatch: pytest.MonkeyPatch, fast: Double
) -> None:
    monkeypatch.setenv("PCOMPILER_CHECK", "1")
    with pytest.raises(KernelError, match="doubled: path 'sum', output 0"):
        op(fast)(torch.ones(3))


def test_a_right_path_passes_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCOMPILER_CHECK", "1")
    assert torch.equal(op(lambda x: x + x)(torch.ones(3)), torch.full((3,), 2.0))


def test_errors_are_relative_and_equal_infinities_are_none() -> None:
    infinite = torch.tensor([1.0, float("inf")])
    assert relative_error(infinite, infinite) == 0
    assert relative_error(torch.tensor([1.1]), torch.tensor([1.0])) == pytest.approx(0.1, rel=1e-3)
    assert not relative_error(torch.tensor([float("nan")]), torch.ones(1)) <= 1
