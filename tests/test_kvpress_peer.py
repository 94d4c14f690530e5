import sys
from pathlib import Path

import pytest

from benches.peers.run_kvpress import SNAPKV_WINDOW, kvpress, presses


def test_without_its_environment_the_peer_is_skipped_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kvpress(tmp_path / "no" / "python", tmp_path, {}) == []
    assert "kvpress skipped" in capsys.readouterr().err


def test_a_peer_that_fails_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="kvpress"):  # this interpreter has no such package
        kvpress(Path(sys.executable), tmp_path, {"presses": []})


def test_snapkvs_window_leaves_half_of_what_is_kept() -> None:
    made = presses(["snapkv", "kvzip"], [2.0, 5.0, 50.0], 1000)
    assert [p["options"].get("window_size") for p in made] == [SNAPKV_WINDOW, 64, 10] + [None] * 3
    assert {p["name"] for p in made} == {"snapkv", "kvzip"}
