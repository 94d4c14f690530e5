"""Who may ask: key files are checked, keys are compared whole and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcompiler.errors import ConfigError
from pcompiler.serve.http.keys import MAX_FILE_BYTES, read_keys
from pcompiler.serve.http.server import checked_keys
from pcompiler.serving import ServeConfig

GOOD = "alice:0123456789abcdef\n# a comment\n\nbob: fedcba9876543210-and-more\n"


def written(tmp_path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_key_has_its_owner_and_nothing_else_has(tmp_path: Path) -> None:
    keys = read_keys(written(tmp_path, GOOD))
    assert keys.names == ("alice", "bob")
    assert keys.owner("Bearer 0123456789abcdef") == "alice"
    assert keys.owner("bearer fedcba9876543210-and-more") == "bob"
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer 0123456789abcde",
        "Bearer 0123456789abcdef0",
        "Basic 0123456789abcdef",
        "0123456789abcdef",
        "Bearer alice:0123456789abcdef",
        "Bearer \udcff",
    ):
        assert keys.owner(wrong) is None, wrong


def test_every_key_is_compared_whichever_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcompiler.serve.http import keys as module

    compared: list[bytes] = []
    real = module.hmac.compare_digest

    def counted(a: bytes, b: bytes) -> bool:
        compared.append(b)
        return real(a, b)

    keys = read_keys(written(tmp_path, GOOD))
    monkeypatch.setattr(module.hmac, "compare_digest", counted)
    for authorization in ("Bearer 0123456789abcdef", "Bearer x", None):
        compared.clear()
        keys.owner(authorization)
        assert len(compared) == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=r"chmod 600"):
        read_keys(written(tmp_path, GOOD, mode))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 keys"),
        ("# only\n", "0 keys"),
        ("alice\n", "line 1"),
        ("alice:short\n", "line 1"),
        ("al ice:0123456789abcdef\n", "line 1"),
        ("../x/:0123456789abcdef\n", "line 1"),
        ("alice:0123456789 abcdef\n", "line 1"),
        ("a:0123456789abcdef\na:0123456789abcdeX\n", "line 2.*before it"),
        ("a:0123456789abcdef\nb:0123456789abcdef\n", "line 2.*before it"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * (MAX_FILE_BYTES + 1), "256 KiB"),
        ("".join(f"c{i}:{i:016d}\n" for i in range(1001)), "1001 keys"),
    ],
)
def test_what_is_no_key_file_is_refused_without_showing_it(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_keys(written(tmp_path, text))
    assert "0123456789" not in str(caught.value)


def test_a_folder_or_nothing_is_no_key_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError):
            read_keys(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_no_server_listens_elsewhere_than_at_loopback_without_keys(
    tmp_path: Path, host: str
) -> None:
    with pytest.raises(ConfigError, match="--api-key-file"):
        checked_keys(ServeConfig(host=host))
    path = written(tmp_path, GOOD)
    keys = checked_keys(ServeConfig(host=host, api_key_file=str(path)))
    assert keys is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert checked_keys(ServeConfig(host=host)) is None
