"""Dictionaries: what they learn, their bytes, and what is refused."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from test_codec import records

from pcompiler.codec import dictionary
from pcompiler.codec.dictionary import Dictionary
from pcompiler.codec.zstd import Codec
from pcompiler.errors import ConfigError, DamageError, InputError

Cli = Callable[..., tuple[int, str, str]]


def test_the_same_samples_give_the_same_dictionary_in_any_order() -> None:
    samples = records(100)
    first = dictionary.train(samples, 4096, name="a")
    again = dictionary.train([*reversed(samples), *samples[:5]], 4096, name="b", version=2)
    assert (again.id, again.data, again.corpus) == (first.id, first.data, first.corpus)
    assert (again.name, again.version, again.samples) == ("b", 2, 100)
    assert dictionary.train(samples[:-1], 4096).corpus != first.corpus


def test_another_dictionary_has_another_id_even_with_the_same_content() -> None:
    found = [dictionary.train(records(100), 4096, level=level) for level in (1, 3, 19)]
    assert len({d.id for d in found}) == len({d.data for d in found}) > 1


@pytest.mark.parametrize("size", [256, 1000, 4096, 112_640, 2**20])
def test_a_dictionary_is_no_larger_than_asked(size: int) -> None:
    learnt = dictionary.train(records(100), size)
    assert 256 <= len(learnt.data) <= size
    codec = Codec(dictionary=learnt)
    assert codec.decompress(codec.compress(b"greetings"), 100) == b"greetings"


@pytest.mark.parametrize("size", [0, 255, 2**20 + 1])
def test_a_size_out_of_range_is_named(size: int) -> None:
    with pytest.raises(ConfigError, match=f"= {size} is out of range; .* 256 to 1048576"):
        dictionary.train(records(100), size)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [b""] * 20,
        [b"only one"],
        records(5),
        [b"x" * 9000] * 30,
        [b"n%d" % i for i in range(100)],
        [b"short %d" % i for i in range(12)],
    ],
)
def test_too_little_to_learn_from_says_what_to_give(samples: list[bytes]) -> None:
    with pytest.raises(InputError, match="give 10 or more"):
        dictionary.train(samples)


def test_samples_are_held_out_without_being_learnt_from() -> None:
    samples = records(57)
    fitted, held_out = dictionary.hold_out(samples + samples)
    assert len(held_out) == 5
    assert sorted(fitted + held_out) == sorted(samples)
    assert dictionary.hold_out(reversed(samples)) == (fitted, held_out)
    with pytest.raises(InputError, match="9 different samples are too few"):
        dictionary.hold_out(records(9) * 2)


def test_the_saving_is_what_the_frames_take() -> None:
    learnt = dictionary.train(records(100), 4096)
    saving = dictionary.measure(records(130)[100:], learnt)
    assert (saving.samples, saving.plain_bytes) == (30, sum(map(len, records(130)[100:])))
    assert 0.3 < saving.saved < 0.9
    noise = [random.Random(i).randbytes(300) for i in range(30)]
    assert dictionary.measure(noise, learnt).saved < 0


def test_more_than_can_be_learnt_from_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary, "MAX_CORPUS_BYTES", 20_000)
    learnt = dictionary.train(records(100), 4096)
    assert 20 < learnt.samples < 60


def test_a_record_gives_back_all_of_it_and_every_flipped_bit_is_noticed() -> None:
    learnt = dictionary.train(records(100), 256, name="Grüße", version=3)
    record = learnt.encode()
    assert asdict(Dictionary.decode(record)) == asdict(learnt)
    assert record.startswith(b"PCDICT\0\1")
    (length,) = struct.unpack_from("<I", record, 8)
    assert record[12 + length : -32] == learnt.data
    for position in range(len(record)):
        flipped = bytearray(record)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(DamageError):
            Dictionary.decode(bytes(flipped))
    for end in range(len(record)):
        with pytest.raises(DamageError):
            Dictionary.decode(record[:end])


def test_hostile_dictionaries_are_refused() -> None:
    good = dictionary.train(records(100), 1024)
    with pytest.raises(DamageError, match="does not begin"):
        Dictionary(good.id + 1, good.data)
    with pytest.raises(DamageError, match="does not begin"):
        Dictionary(good.id, b"raw content, no tables" * 20)
    with pytest.raises(DamageError, match="does not begin"):
        Dictionary(0, good.data[:4] + bytes(4) + good.data[8:])
    for size in (0, 255, 2**20 + 1):
        with pytest.raises(DamageError, match="256 to 1048576"):
            Dictionary(good.id, (good.data * 2000)[:size])
    for seed in range(50):
        noise = random.Random(seed).randbytes(1016)
        with pytest.raises(DamageError, match="damaged"):
            Dictionary(good.id, good.data[:8] + noise)


def folder_of(texts: list[bytes], folder: Path) -> Path:
    folder.mkdir()
    for i, text in enumerate(texts):
        (folder / f"{i}.md").write_bytes(text)
    return folder


def last(out: str) -> dict[str, object]:
    value: dict[str, object] = json.loads(out.strip().splitlines()[-1])
    return value


def test_training_tells_what_held_out_samples_gained(cli: Cli, tmp_path: Path) -> None:
    prompts = folder_of(records(60), tmp_path / "prompts")
    (prompts / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    command = ("store", "dictionary", "train", "--from", prompts, "--size", 4096)
    code, out, err = cli(*command, "--name", "words")
    assert (code, err) == (0, "")
    for words in ("(words, version 1)", "54 samples", "6 held-out", "smaller with it"):
        assert words in out
    told = last(cli(*command, "--json")[1])
    assert (told["name"], told["version"], told["size_bytes"]) == ("words", 1, 4096)  # same samples
    held_out = told["held_out"]
    assert isinstance(held_out, dict)
    assert held_out["samples"] == 6
    assert held_out["dictionary_bytes"] < held_out["zstd_bytes"] < held_out["plain_bytes"]
    listed = last(cli("store", "dictionary", "list", "--json")[1])["dictionaries"]
    assert isinstance(listed, list)
    ((only),) = listed
    assert (only["dictionary"], only["records"], only["current"]) == (told["dictionary"], 0, True)
    assert "current" in cli("store", "dictionary", "list")[1]


def test_lines_of_a_jsonl_file_are_samples(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\n".join(b'{"query": "%s"}' % text for text in records(30)))
    told = last(cli("store", "dictionary", "train", "--from", path, "--json")[1])
    assert told["samples"] == 27


def test_what_cannot_be_learnt_is_said_and_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    few = folder_of(records(4), tmp_path / "few")
    noise = tmp_path / "noise.jsonl"
    hexes = [random.Random(i).randbytes(200).hex().encode() for i in range(40)]
    noise.write_bytes(b"\n".join(hexes))
    train = ("store", "dictionary", "train")
    for words, told in (
        ((), "no store"),
        (("--from", few), "4 different samples are too few"),
        (("--from", tmp_path / "none"), "No such file"),
        (("--from", noise), "nothing is gained"),
        (("--from", noise, "--size", 100), "dictionary_bytes = 100"),
        (("--from", noise, "--name", ""), "--name"),
    ):
        code, _, err = cli(*train, *words)
        assert (code, told in err, len(err.strip().splitlines())) == (2, True, 1), err
    code, out, _ = cli("store", "dictionary", "list")
    assert (code, "has no dictionary" in out) == (0, True)
