"""How threads wait is the user's to say; where nothing is said, patiently."""

from __future__ import annotations

import os

import pytest

from pcompiler.threads import SPINS, patient_threads

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ((None, None), ("PASSIVE", SPINS)),
        (("ACTIVE", None), ("ACTIVE", None)),
        (("PASSIVE", None), ("PASSIVE", None)),
        ((None, "5"), ("PASSIVE", "5")),
    ],
)
def test_what_the_user_set_stays(
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str | None, str | None],
    want: tuple[str | None, str | None],
) -> None:
    monkeypatch.setattr(os, "environ", {n: v for n, v in zip(NAMES, given, strict=True) if v})
    patient_threads()
    assert tuple(os.environ.get(name) for name in NAMES) == want
