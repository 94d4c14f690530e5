"""What a store does not take from a remote, and remotes that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from bare import PROBES, artifact
from machines import Machines, id_of, object_of, put

from pcompiler.compiler import Compiler
from pcompiler.config import Config, StoreConfig
from pcompiler.errors import (
    ConfigError,
    DamageError,
    MismatchError,
)
from pcompiler.model import LanguageModel
from pcompiler.remote import opened, parcel
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash

DESK = "You are the desk of a workshop. It opens at nine."


@pytest.mark.parametrize("kind", [parcel.ARTIFACTS, parcel.BODIES, parcel.TEXTS])
@pytest.mark.parametrize("harm", ["cut", "flipped", "longer", "another's"])
def test_bytes_that_are_not_what_was_sent_are_refused_and_not_stored(
    machines: Machines, tmp_path: Path, kind: str, harm: str
) -> None:
    with machines("a") as a:
        put(a, 1)
        a.put(artifact(2, prompt_hash=content_hash(DESK)), DESK, PROBES)
    path = object_of(machines.folder, artifact(1), kind)
    data, middle = path.read_bytes(), path.stat().st_size // 2
    two = artifact(2, prompt_hash=content_hash(DESK))
    path.write_bytes(
        {
            "cut": data[:middle],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "longer": data + b"x",
            "another's": object_of(machines.folder, two, kind).read_bytes(),
        }[harm]
    )
    b = machines("b")
    with pytest.raises(DamageError, match=path.name):
        b.get(id_of(1))
    b.close()
    with Store(tmp_path / "b", "read") as alone:
        assert alone.find(id_of(1)) is None
        assert not any(alone.records.get("tensors", id_of(n).encode()) for n in (1, 2))


def test_what_differs_is_told(machines: Machines) -> None:
    with machines("a") as a:
        put(a, 1, 2)
    headers = [object_of(machines.folder, artifact(n), parcel.ARTIFACTS) for n in (1, 2)]
    headers[0].write_bytes(headers[1].read_bytes())
    b = machines("b")
    with pytest.raises(DamageError, match=f"it is the header of {id_of(2)}"):
        b.get(id_of(1))
    body = object_of(machines.folder, artifact(2))
    body.write_bytes(body.read_bytes()[:-3])
    size = artifact(2).header.body_bytes
    with pytest.raises(DamageError, match=f"its body has {size - 3} bytes, not {size}"):
        b.get(id_of(2))


def test_a_header_cannot_name_files_of_others(machines: Machines) -> None:
    with machines("a") as a:
        put(a, 1)
    path, b = object_of(machines.folder, artifact(1), parcel.ARTIFACTS), machines("b")
    wrong: tuple[dict[str, object], ...] = (
        *({"body_sha256": "../../../etc/passwd"}, {"prompt_hash": ".."}, {"probes_hash": None}),
        *({"body_bytes": -1}, {"body_bytes": "many"}, {"fit": {"probes_hash": "../x"}}),
    )
    for fields in wrong:
        path.write_bytes(artifact(1, **fields).header.record())
        with pytest.raises(DamageError, match="none that can be"):
            b.get(id_of(1))


def test_an_artifact_of_a_newer_format_is_told(machines: Machines) -> None:
    with machines("a") as a:
        put(a, 1)
    path = object_of(machines.folder, artifact(1), parcel.ARTIFACTS)
    path.write_bytes(artifact(1, format=99).header.record())
    with pytest.raises(MismatchError, match="format 99"):
        machines("b").get(id_of(1))


def test_a_damaged_copy_is_compiled_anew_and_mended(
    model: LanguageModel,
    config: Config,
    machines: Machines,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Compiler(model, store=tmp_path / "a", remote=machines.url, config=config) as here:
        done = here.compile(DESK)
        body = object_of(machines.folder, here.store.get(done.id))
    whole = body.read_bytes()
    body.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # of the same length
    with Compiler(model, store=tmp_path / "b", remote=machines.url, config=config) as there:
        assert not there.compile(DESK).cached
        assert "was refused" in caplog.text
    assert body.read_bytes() == whole
    assert machines("c").get(done.id).body == whole


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "mnt" / "shared"
    with pytest.raises(ConfigError, match="there is no folder at"):
        opened(StoreConfig(path=str(tmp_path / "s"), remote=missing.as_uri()))
    assert not missing.exists()
    assert not (tmp_path / "s").exists()  # refused before the store is made


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host/x", "/mnt/shared", "s3://", "s3:///x", "file://host/x", "https://b.s3.com/x"),
        *("s3://KEY:sesame@bucket/x", "az://account/c?sig=sesame", "file://", "bucket"),
    ],
)
def test_a_url_that_can_be_no_remote_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="remote") as caught:
        StoreConfig(remote=url)
    assert "sesame" not in str(caught.value)


def test_a_missing_package_is_told(
    tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcompiler.remote.bucket.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'pcompiler\[remote\]'"):
        opened(machines.settings("a"))
    opened(StoreConfig(path=str(tmp_path / "without"))).close()
