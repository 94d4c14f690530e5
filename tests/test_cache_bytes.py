"""The cache's bytes as the suite measures them: real tensors, round trips compared."""

from __future__ import annotations

import pytest

from pcompiler.bench import cache_bytes
from pcompiler.bench.harness import Setting
from pcompiler.device import pick
from pcompiler.model import LanguageModel


@pytest.mark.model
def test_planes_save_more_of_a_real_cache_than_plain_zstd(smollm2: LanguageModel) -> None:
    found = cache_bytes.figures(smollm2, Setting(pick("cpu"), 1, quick=True))
    saved = [figure for figure in found if figure.name.endswith("saved")]
    assert [figure.name.split()[3] for figure in saved] == ["16", "8"]
    for figure in saved:
        assert figure.baseline is not None
        assert 0 < figure.baseline < figure.value < 60
