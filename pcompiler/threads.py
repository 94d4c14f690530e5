"""How torch's CPU threads wait; for programs that are ours, before torch is imported."""

from __future__ import annotations

import os

SPINS = "20000"  # some tens of microseconds


def patient_threads() -> None:
    """Let OpenMP's threads sleep at barriers after a moment, where by default they spin.

    Spinning on has made a two-thread prefill up to 15 times slower next to a busy process.
    Sleeping at once makes fitting a hybrid, which is many short steps, a third slower on an idle
    machine (24.4 against 18.4 s); a moment's spin costs a prefill next to one busy process 4.4
    instead of 3.4 s. A setting of the user's own goes before ours. GOMP_SPINCOUNT is of GNU's
    OpenMP, which torch's Linux builds have.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
