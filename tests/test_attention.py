"""Attention by a table of what is seen: C++ does what plain torch does, whatever the shapes."""

from __future__ import annotations

import math

import pytest
import torch

from pcompiler import attention
from pcompiler.attention import MOST_SEEN, Scene, attend, log_masses
from pcompiler.kernels import compiled
from pcompiler.kernels.op import Op, Unavailable, relative_error

SHAPES = [
    # heads, heads of keys, tokens, prefix, width, own tokens seen at most
    (9, 3, 37, 101, 64, 12),
    (4, 4, 1, 0, 8, 1),
    (2, 1, 5, 1, 7, 5),
    (8, 2, 33, 16, 31, 33),
    (6, 2, 3, 1105, 64, 2),
]


def scene(
    shape: tuple[int, ...],
    bias: tuple[int, int] | None = None,
    softcap: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, Scene]:
    """Queries of probes laid end to end, some longer than others; keys with gaps in memory."""
    torch.manual_seed(sum(shape))
    heads, kv_heads, t, m, d, longest = shape
    back, at = torch.arange(longest), torch.arange(t) % longest
    seen = torch.arange(t)[:, None] - back
    seen = seen.masked_fill(back > at[:, None], -1).int()

    def apart(n: int) -> torch.Tensor:
        return torch.randn(n, kv_heads + 2, d, dtype=dtype)[:, :kv_heads].transpose(0, 1)

    added = None
    if bias is not None:
        added = torch.randn(*bias, m, dtype=dtype)
        added[..., ::3] = -math.inf
    q = torch.randn(t, heads, d, dtype=dtype).transpose(0, 1) * 3
    return q, Scene(apart(m), apart(m), apart(t), apart(t), seen, d**-0.5, added, softcap)


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        compiled.library("attention")
    except Unavailable as e:
        pytest.skip(str(e))


@pytest.mark.parametrize("op", [attend, log_masses], ids=lambda op: op.name)
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("bias", ["none", "group", "head", "token"])
@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_attention_is_plain_attention(
    op: Op[[torch.Tensor, Scene], tuple[torch.Tensor, torch.Tensor]],
    shape: tuple[int, ...],
    bias: str,
    softcap: float | None,
) -> None:
    heads, kv_heads, t = shape[:3]
    of = {"none": None, "group": (kv_heads, 1), "head": (heads, 1), "token": (1, t)}[bias]
    q, some = scene(shape, of, softcap)
    assert op.chosen(q, some) == "cpp"
    for got, want in zip(op(q, some), op.twin(q, some), strict=True):
        assert got.shape == want.shape
        assert relative_error(got, want) < 2e-6


@pytest.mark.parametrize("op", [attend, log_masses], ids=lambda op: op.name)
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("bias", [None, (1, 1), "token"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_gathering_what_is_seen_is_plain_attention(
    op: Op[[torch.Tensor, Scene], tuple[torch.Tensor, torch.Tensor]],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    bias: tuple[int, int] | str | None,
    softcap: float | None,
) -> None:
    """What an accelerator does, on the host."""
    of = (1, shape[2]) if isinstance(bias, str) else bias
    q, some = scene(shape, of, softcap, dtype)
    (path,) = (path for path in op.paths if path.name == "gathered")
    gathered = path.function()
    assert gathered is not None
    assert not path.takes(q, some)
    for got, want in zip(gathered(q, some), op.twin(q, some), strict=True):
        assert got.shape == want.shape
        assert relative_error(got, want) < 2e-6


def test_a_copy_that_memory_may_not_hold_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    q, some = scene((2, 1, 64, 3, 4, 8))
    (path,) = (path for path in attend.paths if path.name == "gathered")
    monkeypatch.setattr(attention, "on_host", lambda _: False)
    assert path.takes(q, some)
    monkeypatch.setattr(attention, "MOST_GATHERED", 64 * 8 * 4 - 1)
    assert not path.takes(q, some)


def test_inputs_are_not_written_to() -> None:
    q, some = scene(SHAPES[0], (3, 1))
    assert some.bias is not None
    before = [t.clone() for t in (q, some.keys, some.own_values, some.bias)]
    attend(q, some)
    for was, now in zip(before, (q, some.keys, some.own_values, some.bias), strict=True):
        assert torch.equal(was, now)


def test_what_is_not_a_number_does_not_vanish() -> None:
    q, some = scene(SHAPES[0])
    q[0, 0, 0] = math.nan
    output, weights = attend(q, some)
    assert output[0, 0].isnan().all()
    assert weights[0, 0].isnan().all()
    assert not output[0, 1:].isnan().any()


def test_other_dtypes_long_texts_and_gradients_go_the_plain_way() -> None:
    q, some = scene(SHAPES[0], dtype=torch.bfloat16)
    assert attend.chosen(q, some) == (
        "torch (cpp: not for these inputs; gathered: not for these inputs)"
    )
    assert attend(q, some)[0].dtype == torch.float32  # as fused attention sums within
    q, some = scene((2, 1, MOST_SEEN + 1, 3, 4, MOST_SEEN + 1))
    assert attend.chosen(q, some).startswith("torch")
    q, some = scene(SHAPES[0])
    q = q.clone().requires_grad_()
    assert attend.chosen(q, some).startswith("torch")
    attend(q, some)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None


def test_threads_do_not_change_a_bit() -> None:
    q, some = scene(SHAPES[0], (3, 1))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(attend(q, some)[1])
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(*found, rtol=1e-6, atol=0)
