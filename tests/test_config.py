"""Settings: one place for defaults, checked values, a fingerprint of what matters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pcompiler.config import CompileConfig, Config, ProbeConfig, StoreConfig
from pcompiler.errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_written_defaults_are_the_defaults() -> None:
    assert Config.load(CONFIGS / "default.toml") == Config()


def test_every_configuration_in_the_repository_loads() -> None:
    for path in CONFIGS.glob("*.toml"):
        Config.load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", "cannot read"),
        ("[speed]\n", r"speed.*model, compile, targets, probes, store"),
        ("[compile]\ntargets = 'kv'\n", r"targets.*target, seed"),
        ("[compile]\nseed = 'one'\n", r"compile\.seed.*a number"),
        ("[compile]\nseed = 1.5\n", r"compile\.seed"),
        ("[compile]\nseed = true\n", r"compile\.seed"),
        ("[model]\nname = 3\n", r"model\.name.*a text"),
        ("compile = 3\n", "section"),
        ("[compile]\nmin_agreement = 1.5\n", "min_agreement"),
        ("[compile]\nmax_kl = -1\n", "max_kl"),
        ("[probes]\nanswer_tokens = 0\n", "answer_tokens"),
        ("[store]\nzstd_level = 40\n", "zstd_level"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        Config.load(path)


def test_the_fingerprint_sees_what_changes_an_artifact_and_nothing_else() -> None:
    base = Config()
    for same in (
        replace(base, compile=CompileConfig(min_agreement=0.9, target="text")),
        replace(base, store=StoreConfig(path="/elsewhere")),
    ):
        assert same.fingerprint() == base.fingerprint()
    for other in (
        replace(base, compile=CompileConfig(seed=1)),
        replace(base, probes=ProbeConfig(answer_tokens=5)),
        replace(base, store=StoreConfig(zstd_level=9)),
    ):
        assert other.fingerprint() != base.fingerprint()
