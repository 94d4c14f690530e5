"""Settings: one place for defaults, checked values, a fingerprint of what matters."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from pcompiler.config import CompileConfig, Config, ProbeConfig, StoreConfig, TargetConfig
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
        ("[probes]\nfitting = -1\n", "fitting"),
        ("[probes]\nfitting = 5.5\n", "fitting"),
        ("[targets]\nfactor = 0.5\n", r"factor = 0\.5.*1 to 10,000"),
        ("[targets]\nfactor = nan\n", "factor = nan"),
        ("[targets]\nfactor = 'ten'\n", r"targets\.factor.*a number"),
        ("[targets]\nbudget = 'heads'\n", "budget = 'heads'.*head or global"),
        ("[targets]\nbits = 7\n", "bits = 7.*8 or 16"),
        ("[targets]\nrank = 0\n", "rank = 0"),
        ("[targets]\nrank = 2.5\n", r"targets\.rank"),
        ("[targets]\nbudget_bytes = 0\n", "budget_bytes"),
        ("[targets]\nstrength = 1.01\n", "strength"),
        ("[targets]\nstrength = nan\n", "strength"),
        ("[targets]\nrefine = -1\n", "refine"),
        ("[store]\nzstd_level = 40\n", "zstd_level"),
        ("[store]\nzstd_level = 0\n", "zstd_level = 0.*-7 to 22 and not 0"),
        ("[store]\nzstd_level = -8\n", "zstd_level"),
        ("[store]\nzstd_threads = 65\n", r"zstd_threads = 65.*1 to 64, or 0 for all cores"),
        ("[store]\nzstd_threads = true\n", r"store\.zstd_threads.*a number"),
        ("[store]\nzstd_long_distance = 1\n", r"store\.zstd_long_distance.*true or false"),
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
        replace(base, targets=TargetConfig(rank=3)),  # unless the target goes by it
    ):
        assert same.fingerprint() == base.fingerprint()
    for other in (
        replace(base, compile=CompileConfig(seed=1)),
        replace(base, probes=ProbeConfig(answer_tokens=5)),
        replace(base, store=StoreConfig(zstd_level=9)),
        replace(base, store=StoreConfig(zstd_long_distance=True)),
        replace(base, store=StoreConfig(zstd_threads=2)),
    ):
        assert other.fingerprint() != base.fingerprint()
    several = replace(base, store=StoreConfig(zstd_threads=3))
    assert several.fingerprint() == other.fingerprint()


def test_the_fingerprint_of_the_defaults_never_changes() -> None:
    """It is in the id of whatever was stored with them."""
    assert Config().fingerprint() == "d3ce67b7e4a206c9"
    assert Config().fingerprint(("factor", "rank")) == "79bfb0e13ab7399d"


def test_zstd_has_all_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[store]\nzstd_level = -7\nzstd_threads = 0\nzstd_long_distance = true\n")
    store = Config.load(path).store
    assert (store.zstd_level, store.zstd_threads, store.zstd_long_distance) == (-7, 0, True)


def test_the_fingerprint_sees_the_targets_own_settings_by_their_value() -> None:
    def of(*names: str, **settings: Any) -> str:
        return Config(targets=TargetConfig(**settings)).fingerprint(names)

    assert of("factor", factor=4.0, rank=3) == of("factor", factor=4)
    assert of("factor", factor=4.0) != of("factor", factor=5.0)
    assert of("rank", "factor", factor=4.0) != of("rank", factor=4.0)


def test_the_defaults_of_every_setting_are_written_out() -> None:
    """Those that are off by default as comments, so that a reader finds them."""
    text = (CONFIGS / "default.toml").read_text()
    for section in fields(Config):
        for name in fields(section.default_factory):  # type: ignore[arg-type]
            assert re.search(rf"^(# )?{name.name} = ", text, re.MULTILINE), name.name
